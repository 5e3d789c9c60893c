-- An import that updates a vendor and then, inside the same transaction, waits for somebody else's service.
begin;
update vendors set updated_at = now() where id = 8;
\sleep 37 s
commit;

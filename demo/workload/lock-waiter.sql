-- A caterer changes a telephone number while the import holds the row.
update vendors set phone = '+49 30 5550123' where id = 8;
\sleep 100 ms

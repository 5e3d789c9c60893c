-- What a healthy application does: small things by primary key.
\set vendor random(1, 25) * 8
\set wedding random(1, 200) * 8
select couple, ceremony_at from weddings where id = :wedding;
select sum(cents) from invoices where vendor_id = :vendor and not paid;
insert into invoices (planner_id, vendor_id, cents, due_on) values (1, :vendor, 12500, current_date + 30);
\sleep 500 ms

-- cluster:
-- object: public.guests
-- given: a table, and fewer transactions than it takes
create table guests (id int); insert into guests values (1); vacuum (freeze) guests;
update monitoring.thresholds set warning = 3000, critical = 1000000 where check_id = 'transaction-id-age';
-- then: none
-- given: thousands of transactions
do $$ begin for n in 1..4000 loop begin insert into guests values (n); exception when division_by_zero then null; end; end loop; end $$;
-- then: warning public.guests
-- given: a VACUUM that freezes
vacuum (freeze) guests;
-- then: none

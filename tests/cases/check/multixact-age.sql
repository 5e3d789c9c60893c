-- cluster:
-- object: database test_*
-- given: rows, and few locks on them
create table guests (id int primary key, name text); insert into guests values (1);
update monitoring.thresholds set warning = 100, critical = 1000000 where check_id = 'multixact-age';
-- then: none
-- given: rows that a transaction and its subtransactions lock and change
do $$ begin for n in 1..200 loop perform from guests where id = 1 for key share; begin update guests set name = n::text; exception when division_by_zero then null; end; end loop; end $$;
-- then: warning database test_*
-- given: a VACUUM that freezes everything
vacuum (freeze);
-- then: none

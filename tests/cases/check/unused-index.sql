-- given: an operator who counts every page, and a table that is read by its key
update monitoring.thresholds set warning = 0.1 where check_id = 'unused-index';
create table guests (id int primary key, name text); insert into guests select n, md5(n::text) from generate_series(1, 10000) n; vacuum analyze guests;
do $$ begin for n in 1..1100 loop perform from guests where id = n; end loop; end $$;
-- then: none
-- given: an index that nobody reads, but nobody has counted for a week
create index guests_name_idx on guests (name);
-- then: none
-- given: nobody needs to
update monitoring.settings set value = '0' where key = 'unused_index_after_days';
-- then: warning public.guests_name_idx
-- given: somebody does
select from guests where name = 'nobody';
-- then: none

-- given: an operator who counts every page, and two indexes that differ
update monitoring.thresholds set warning = 0.01 where check_id = 'duplicate-index';
create table guests (id int primary key, wedding int, name text); insert into guests select n, n, md5(n::text) from generate_series(1, 2000) n;
create index guests_wedding_name_idx on guests (wedding, name);
create index guests_name_wedding_idx on guests (name, wedding);
create index guests_partly_idx on guests (wedding) where wedding > 5;
create unique index guests_wedding_key on guests (wedding);
create index guests_lower_idx on guests (lower(name)); create index guests_upper_idx on guests (upper(name));
create index guests_down_idx on guests (wedding desc);
create index guests_wide_idx on guests using brin (name); create index guests_narrow_idx on guests using brin (name) with (pages_per_range = 4);
create table visits (path tsvector); create index visits_short_idx on visits using gist (path tsvector_ops (siglen = 32)); create index visits_long_idx on visits using gist (path tsvector_ops (siglen = 512));
insert into visits select to_tsvector('simple', md5(n::text)) from generate_series(1, 2000) n;
vacuum analyze guests;
-- then: none
-- given: one that is the beginning of another
create index guests_name_idx on guests (name);
-- then: warning public.guests_name_idx
-- given: it is dropped
drop index guests_name_idx;
-- then: none
-- given: the same twice
create index guests_lower_again_idx on guests (lower(name));
-- then: warning public.guests_lower_again_idx
-- given: the younger is dropped
drop index guests_lower_again_idx;
-- then: none
-- given: what the primary key does already
create index guests_id_idx on guests (id);
-- then: warning public.guests_id_idx
-- given: it is dropped
drop index guests_id_idx;
-- then: none
-- given: a partitioned table with the same twice
drop table guests;
create table guests (wedding int, name text) partition by range (wedding);
create table small_guests partition of guests for values from (0) to (1000); create table large_guests partition of guests for values from (1000) to (9000);
insert into guests select n, md5(n::text) from generate_series(1, 2000) n;
create index guests_name_idx on guests (name); create index guests_name_again_idx on guests (name);
vacuum analyze guests;
-- then: warning public.guests_name_again_idx
-- given: what the remedy says
do $$ declare v_remedy text;
begin
  select remediation into v_remedy from monitoring.findings() where check_id = 'duplicate-index';
  execute v_remedy;
end $$;
-- then: none

-- given: guests of weddings, found by an index
update monitoring.thresholds set warning = 0.01 where check_id = 'foreign-key-without-index';
create table weddings (id int, day date, primary key (id, day)); insert into weddings select n, 'today' from generate_series(1, 1000) n;
create table guests (id int, day date, wedding int, constraint at_wedding foreign key (wedding, day) references weddings);
insert into guests select n, 'today', n from generate_series(1, 1000) n;
create index guests_wedding_idx on guests (day, wedding, id); create index guests_part_idx on guests (wedding, day) where id > 5;
vacuum analyze;
-- then: none
-- given: the index is gone, but for one of only some rows
drop index guests_wedding_idx;
-- then: warning public.guests at_wedding
-- given: an index
create index on guests (wedding, day);
-- then: none
-- given: one that finds parts of the table and no rows, and another key by the same columns
drop index guests_wedding_day_idx; create index on guests using brin (wedding, day);
alter table guests add constraint at_it foreign key (wedding, day) references weddings;
-- then: warning public.guests at_wedding
-- given: what the remedy says
create index on guests (wedding, day);
-- then: none
-- given: an index whose order is not the column's
create table halls (code text collate "C" primary key); insert into halls values ('a');
create table tables (code text collate "C" constraint in_hall references halls, seats int); insert into tables select 'a', n from generate_series(1, 1000) n;
create index tables_code_idx on tables (code collate "POSIX"); vacuum analyze tables;
-- then: warning public.tables in_hall
-- given: one in its order, and, from 18 on, a key whose last part is a period
create index tables_seats_idx on tables (code, seats);
do $$ begin
  if current_setting('server_version_num')::int >= 180000 then
    create extension btree_gist;
    execute 'create table lets (hall int, at int4range, primary key (hall, at without overlaps));
      insert into lets select n, ''[1,9)'' from generate_series(1, 1000) n;
      create table parties (hall int, at int4range, foreign key (hall, period at) references lets);
      insert into parties select n, ''[1,9)'' from generate_series(1, 1000) n; create index on parties (hall)';
  end if;
end $$;
vacuum analyze;
-- then: none

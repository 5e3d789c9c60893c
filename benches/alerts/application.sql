-- A healthy application, as the bench watches it: policies that restrict, an index for each foreign key, sequences the monitor may read.
do $$ begin create role web nologin; exception when duplicate_object then null; end $$;
create table venues (id int generated always as identity primary key, name text not null);
create table weddings (id int generated always as identity primary key, venue_id int not null references venues, day date not null, owner_id int not null, couple text not null);
create table guests (id int generated always as identity primary key, wedding_id int not null references weddings, name text not null, answer text not null default 'open', note text);
create table messages (id bigint generated always as identity primary key, wedding_id int not null references weddings, sent_at timestamptz not null, body text not null);
-- Small, and written all the time: dead rows come by the second.
create table seats (id int primary key, taken int not null);
create index on weddings (venue_id);
create index on weddings (day);
create index on guests (wedding_id);
create index on messages (wedding_id);
grant select, insert, update, delete on all tables in schema public to web;
do $$
declare
  v_table text;
begin
  foreach v_table in array '{venues,weddings,guests,messages,seats}'::text[] loop
    execute format('alter table %I enable row level security; create policy own on %I to web using (current_setting(''app.user'', true) <> '''')', v_table, v_table);
  end loop;
end
$$;
grant select on all sequences in schema public to monitoring_owner;
insert into venues (name) select 'venue ' || n from generate_series(1, 200) n;
insert into weddings (venue_id, day, owner_id, couple)
select 1 + n % 200, date '2025-01-01' + n % 730, n % 500, 'couple ' || n from generate_series(1, 2000 * :size) n;
insert into guests (wedding_id, name, note)
select 1 + n % (2000 * :size), 'guest ' || n, md5(n::text) || md5((n + 1)::text) from generate_series(1, 60000 * :size) n;
insert into seats select n, 0 from generate_series(1, 10) n;
analyze;

-- The demo's patient: what a wedding platform keeps, with five things wrong on purpose.
--   1. guests.wedding_id has no index: counting a wedding's guests reads every guest there is.
--   2. guest_dietary_notes has no row-level security: every tenant reads everybody's allergies.
--   3. seating_plans has it, with a policy that lets everybody through.
--   4. rsvp_events is never vacuumed and half of it is dead.
--   5. vendors are updated inside transactions that stay open (see workload/).
-- Run by the role that owns the database; weddings_app is the role the applications log in as.

create table planners (
    id   int primary key,
    name text not null
);

create table vendors (
    id         int primary key,
    planner_id int not null references planners,
    name       text not null,
    trade      text not null,
    phone      text,
    updated_at timestamptz not null default now()
);

create table weddings (
    id          int primary key,
    planner_id  int not null references planners,
    couple      text not null,
    ceremony_at timestamptz not null
);
create index on weddings (planner_id, ceremony_at);

create table guests (
    id         int primary key,
    planner_id int not null,
    wedding_id int not null,
    name       text not null,
    email      text not null,
    attending  boolean not null
);

create table guest_dietary_notes (
    guest_id int primary key references guests,
    note     text not null
);

create table seating_plans (
    wedding_id int primary key references weddings,
    plan       jsonb not null
);

create table invoices (
    id         bigint generated always as identity primary key,
    planner_id int not null references planners,
    vendor_id  int not null references vendors,
    cents      int not null,
    due_on     date not null,
    paid       boolean not null default false
);
create index on invoices (vendor_id);

create table rsvp_events (
    guest_id  int primary key,
    answer    text not null,
    last_seen timestamptz not null default now()
) with (autovacuum_enabled = off);

insert into planners select n, 'Planner ' || n from generate_series(1, 8) n;

insert into vendors
select n, 1 + n % 8, 'Vendor ' || n, (array['catering', 'flowers', 'music', 'photos', 'venue'])[1 + n % 5]
from generate_series(1, 200) n;

insert into weddings
select n, 1 + n % 8, 'Couple ' || n, date_trunc('hour', now()) + n * interval '47 minutes'
from generate_series(1, 1600) n;

insert into guests
select n, 1 + (n + 1) % 8, 1 + n % 1600, 'Guest ' || n, 'guest' || n || '@example.org', n % 7 <> 0
from generate_series(1, 200000) n;

insert into guest_dietary_notes
select n, (array['nut allergy', 'vegan', 'coeliac'])[1 + n % 3] from generate_series(1, 200000, 40) n;

insert into seating_plans select id, jsonb_build_object('tables', 12) from weddings;

insert into invoices (planner_id, vendor_id, cents, due_on)
select planner_id, id, 10000 + 25 * n, current_date + n from vendors, generate_series(1, 50) n;

insert into rsvp_events (guest_id, answer) select n, 'maybe' from generate_series(1, 60000) n;
update rsvp_events set answer = 'yes', last_seen = now();

do $$
declare
    t text;
begin
    -- A tenant sees its own rows: the application says whose session it is.
    foreach t in array array['planners', 'vendors', 'weddings', 'guests', 'invoices'] loop
        execute format('alter table %I enable row level security', t);
        execute format(
            'create policy tenant on %I to weddings_app using (%I = current_setting(''app.planner_id'')::int)',
            t, case t when 'planners' then 'id' else 'planner_id' end);
    end loop;
end
$$;

alter table rsvp_events enable row level security;
create policy own_guests on rsvp_events to weddings_app
    using (guest_id in (select id from guests));

alter table seating_plans enable row level security;
create policy everybody on seating_plans using (true);

grant select, insert, update, delete
   on planners, vendors, weddings, guests, guest_dietary_notes, seating_plans, invoices, rsvp_events
   to weddings_app;

analyze planners, vendors, weddings, guests, guest_dietary_notes, seating_plans, invoices, rsvp_events;

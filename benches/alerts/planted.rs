//! What is planted: incidents, each with the check that must tell it, and ordinary things of which nothing must be told.

/// Something that happens on a server that was quiet for a quarter of an hour.
#[derive(Debug)]
pub(crate) struct Planted {
    pub(crate) kind: &'static str,
    /// What has to tell it; empty: nothing may.
    pub(crate) check_id: &'static str,
    /// What may be told as well, since it is true.
    pub(crate) also: &'static [&'static str],
    /// Before the quiet minutes.
    pub(crate) prepare: &'static str,
    /// In each of the quiet minutes: an application that goes on.
    pub(crate) as_ever: &'static str,
    /// Sessions that begin when it is planted, each with its statements.
    pub(crate) sessions: &'static [&'static str],
    /// Statements when it is planted; one that fails (as `create index concurrently` can) fails.
    pub(crate) plant: &'static [&'static str],
    /// Before each sample from then on.
    pub(crate) every_minute: &'static str,
    /// Connections that are opened before each sample.
    pub(crate) connections: usize,
    /// What copies a table out and is not read, for as long as it lasts.
    pub(crate) is_backup: bool,
    /// So many minutes pass before the first sample, instead of one.
    pub(crate) first_gap: i32,
    /// Whether it is past the threshold, asked at the moment of the sample; not by anything that judges.
    pub(crate) crossed: &'static str,
    /// How many samples there may be from the crossing to the alert: 16 where the check looks every quarter of an hour, since what it
    /// finds is told by the sample after.
    pub(crate) within: i32,
    /// What takes it away; empty: it is not seen to its end, as of an hour that goes on.
    pub(crate) undo: &'static [&'static str],
    /// Samples at most, or of what is ordinary.
    pub(crate) samples: i32,
}

const NOTHING: Planted = Planted {
    kind: "",
    check_id: "",
    also: &[],
    prepare: "",
    as_ever: "",
    sessions: &[],
    plant: &[],
    every_minute: "",
    connections: 0,
    is_backup: false,
    first_gap: 1,
    crossed: "false",
    within: 1,
    undo: &[],
    samples: 12,
};

/// Looks by which a statement is slow, or not, and what the server has counted of them.
const LOOK: &str = "select count(*) from messages where body like '%x1'; \
    select count(*) from messages where body like '%x2'; \
    select count(*) from messages where body like '%x3'; \
    select count(*) from messages where body like '%x4'; \
    select count(*) from messages where body like '%x5'; \
    select count(*) from messages where body like '%x6'; \
    select count(*) from messages where body like '%x7'; \
    select count(*) from messages where body like '%x8'; \
    select count(*) from messages where body like '%x9'; \
    select count(*) from messages where body like '%x10';
    insert into bench.looks select now(), sum(p.calls), sum(p.total_exec_time) from pg_stat_statements p
    where p.query like 'select count(*) from messages where body%' and p.dbid = (select d.oid from pg_database d where d.datname = current_database())";

pub(crate) const INCIDENTS: [Planted; 17] = [
    Planted {
        kind: "a slow statement",
        check_id: "slow-statement",
        sessions: &["select pg_sleep(600)"],
        crossed: "exists (select from pg_stat_activity a where a.query = 'select pg_sleep(600)' and now() - a.query_start >= interval '500 ms')",
        undo: &["select 1"],
        ..NOTHING
    },
    Planted {
        kind: "a lock chain",
        check_id: "blocking-session",
        // Its head sleeps in a statement.
        also: &["slow-statement"],
        sessions: &[
            "begin; lock table guests in share row exclusive mode; select pg_sleep(600)",
            "update guests set answer = 'no' where id = 1",
            "update guests set answer = 'no' where id = 2",
        ],
        crossed: "exists (select from pg_stat_activity a where cardinality(pg_blocking_pids(a.pid)) > 0 and now() - a.state_change >= interval '1 second')",
        undo: &["select 1"],
        ..NOTHING
    },
    Planted {
        kind: "idle in transaction",
        check_id: "idle-in-transaction",
        sessions: &["begin; select count(*) from venues"],
        crossed: "exists (select from pg_stat_activity a where a.state = 'idle in transaction' and a.datname = current_database() and now() - a.state_change >= interval '30 seconds')",
        undo: &["select 1"],
        ..NOTHING
    },
    Planted {
        kind: "a long transaction",
        check_id: "long-transaction",
        also: &["slow-statement"],
        sessions: &["begin; select count(*) from venues; select pg_sleep(900)"],
        crossed: "exists (select from pg_stat_activity a where a.state = 'active' and a.query like 'select pg_sleep(900)' and now() - a.xact_start >= interval '5 minutes')",
        undo: &["select 1"],
        ..NOTHING
    },
    Planted {
        kind: "connections run out",
        check_id: "connection-utilization",
        connections: 14,
        crossed: "(select count(*) from pg_stat_activity where backend_type = 'client backend') >= 0.7 * (current_setting('max_connections')::int - current_setting('superuser_reserved_connections')::int)",
        undo: &["select 1"],
        ..NOTHING
    },
    Planted {
        kind: "row-level security off",
        check_id: "rls-exposed",
        also: &["rls-changed"],
        plant: &["alter table guests disable row level security", "select bench.settle()"],
        crossed: "not (select c.relrowsecurity from pg_class c where c.oid = 'guests'::regclass)",
        undo: &["alter table guests enable row level security", "select bench.settle()"],
        ..NOTHING
    },
    Planted {
        kind: "a policy that was changed",
        check_id: "rls-changed",
        plant: &["alter policy own on guests using (id > 0)", "select bench.settle()"],
        crossed: "(select pg_get_expr(p.polqual, p.polrelid) from pg_policy p where p.polrelid = 'guests'::regclass) = '(id > 0)'",
        undo: &["alter policy own on guests using (current_setting('app.user', true) <> '')", "select bench.settle()"],
        ..NOTHING
    },
    Planted {
        kind: "a table that is not vacuumed",
        check_id: "dead-tuples",
        prepare: "vacuum analyze guests",
        every_minute: "delete from guests where id % 10 = (select count(*) % 10 from monitoring.samples); select bench.flush()",
        crossed: "(select 100.0 * n_dead_tup / (n_live_tup + n_dead_tup) >= 20 and n_dead_tup > 50 + 0.2 * 60000 from pg_stat_user_tables where relname = 'guests')",
        undo: &["vacuum guests", "select bench.settle()"],
        ..NOTHING
    },
    Planted {
        kind: "transaction ids run out (threshold 60,000)",
        check_id: "transaction-id-age",
        prepare: "vacuum (freeze); update monitoring.thresholds set warning = 60000, critical = 500000 where check_id = 'transaction-id-age';
            create table bench.burnt (at int)",
        every_minute: "do $$ begin for n in 1..20000 loop begin insert into bench.burnt values (n); exception when others then null; end; end loop; truncate bench.burnt; end $$",
        crossed: "(select max(age(c.relfrozenxid)) from pg_class c where c.relkind = 'r') >= 60000",
        samples: 8,
        ..NOTHING
    },
    Planted {
        kind: "checkpoints come too often",
        check_id: "frequent-checkpoints",
        every_minute: "checkpoint; checkpoint; checkpoint; select bench.settle()",
        crossed: "(select s.checkpoints_requested from monitoring.collect_sample('{}') s) - (select s.checkpoints_requested from monitoring.samples s where s.tick_at >= now() - interval '1 hour' order by s.tick_at limit 1) >= 12",
        ..NOTHING
    },
    Planted {
        kind: "work on disk (threshold 100 MB)",
        check_id: "temp-files",
        // It takes time, too.
        prepare: "update monitoring.thresholds set warning = 100, critical = 10240 where check_id = 'temp-files'",
        every_minute: "set work_mem = '64kB'; select count(*) from (select n, md5(n::text) from generate_series(1, 400000) n order by 2) s; select bench.flush()",
        crossed: "(select d.temp_bytes from pg_stat_database d where d.datname = current_database()) - (select s.temp_bytes from monitoring.samples s where s.tick_at >= now() - interval '1 hour' order by s.tick_at limit 1) >= 100 * 1048576",
        ..NOTHING
    },
    Planted {
        kind: "reads from disk, in most minutes",
        check_id: "cache-misses",
        // What reads so much does so from end to end.
        also: &["sequential-scans"],
        // On a server that has been up for a day: in the hours after a restart nothing is in the cache.
        prepare: "create table archive as select n, repeat(md5(n::text), 30) as body from generate_series(1, 60000) n; alter table archive enable row level security;
            alter function monitoring.collect_sample(monitoring.seen_backend[]) rename to collect_sample_here;
            create function monitoring.collect_sample(p_backends monitoring.seen_backend[]) returns monitoring.samples language plpgsql as $$
            declare s monitoring.samples := monitoring.collect_sample_here(p_backends);
            begin s.server_started_at := s.server_started_at - interval '1 day'; return s; end $$;
            vacuum analyze archive",
        every_minute: "select count(*) from archive where body like '%x%'; select bench.flush()",
        crossed: "(select sum(x.r) >= 50000 and percentile_cont(0.5) within group (order by 100.0 * x.r / greatest(x.r + x.h, 1)) >= 20
          from (select s.blocks_read - lag(s.blocks_read) over (order by s.sampled_at) as r, s.blocks_hit - lag(s.blocks_hit) over (order by s.sampled_at) as h
            from (select s.sampled_at, s.blocks_read, s.blocks_hit from monitoring.samples s
              union all select now(), d.blks_read, d.blks_hit from pg_stat_database d where d.datname = current_database()) s) x where x.r is not null)",
        samples: 30,
        ..NOTHING
    },
    Planted {
        kind: "a slot that nobody reads (threshold 64 MB)",
        check_id: "replication-slot",
        prepare: "update monitoring.thresholds set warning = 64, critical = 10240 where check_id = 'replication-slot'",
        plant: &["select pg_create_physical_replication_slot('gone', true)"],
        every_minute: "create table bench.wal (n int); drop table bench.wal; select pg_switch_wal(); create table bench.wal (n int); drop table bench.wal; select pg_switch_wal()",
        crossed: "(select pg_wal_lsn_diff(pg_current_wal_lsn(), s.restart_lsn) >= 64 * 1048576 from pg_replication_slots s where s.slot_name = 'gone')",
        undo: &["select pg_drop_replication_slot('gone')"],
        ..NOTHING
    },
    Planted {
        kind: "nobody has watched for 5 minutes",
        check_id: "sampler-gap",
        first_gap: 5,
        crossed: "now() - (select max(s.sampled_at) from monitoring.samples s) >= interval '3 minutes'",
        undo: &["select 1"],
        ..NOTHING
    },
    Planted {
        kind: "a sequence near its end",
        check_id: "sequence-exhaustion",
        prepare: "select setval('guests_id_seq', 1560000000)",
        every_minute: "select setval('guests_id_seq', (select last_value + 10000000 from guests_id_seq))",
        crossed: "(select s.last_value >= 0.75 * 2147483647 from guests_id_seq s)",
        within: 16,
        samples: 24,
        ..NOTHING
    },
    Planted {
        kind: "an index that was not built",
        check_id: "invalid-index",
        plant: &["create unique index concurrently broken on guests (answer)", "select bench.settle()"],
        crossed: "exists (select from pg_index i where not i.indisvalid)",
        within: 16,
        samples: 20,
        ..NOTHING
    },
    Planted {
        kind: "a statement slower than in its week",
        check_id: "statement-regression",
        // Which is why.
        also: &["sequential-scans"],
        prepare: "insert into messages (wedding_id, sent_at, body) select 1, now(), repeat('y', 100) from generate_series(1, 40000); vacuum analyze messages;
            create table bench.looks (at timestamptz, calls numeric, ms numeric)",
        as_ever: LOOK,
        plant: &[
            // It has been so for days.
            "insert into monitoring.statements_hourly (at, seconds, query_ids, calls, exec_ms, rows, blocks_hit, blocks_read, temp_blocks)
             select date_trunc('hour', now()) - n * interval '1 hour', 3600, array_agg(a.query_id), array_agg(a.calls), array_agg(a.exec_ms), array_agg(a.rows),
               array_agg(a.blocks_hit), array_agg(a.blocks_read), array_agg(a.temp_blocks)
             from monitoring.statement_activity(now() - interval '1 hour', now() + interval '1 minute') a, generate_series(2, 100) n group by n",
            "insert into messages (wedding_id, sent_at, body) select 1, now(), repeat('y', 100) from generate_series(1, 240000)",
        ],
        every_minute: LOOK,
        crossed: "(select (last.ms - first.ms) / (last.calls - first.calls) >= 3 * (ever.ms - first.ms) / (ever.calls - first.calls)
          from (select * from bench.looks l order by l.at limit 1) first, (select * from bench.looks l order by l.at desc limit 1) last,
            (select * from bench.looks l order by l.at offset 14 limit 1) ever)",
        within: 16,
        samples: 40,
        ..NOTHING
    },
];

pub(crate) const ORDINARY: [Planted; 7] = [
    Planted {
        kind: "a backup that takes 20 minutes",
        is_backup: true,
        samples: 20,
        ..NOTHING
    },
    Planted {
        kind: "a deploy: new tables, new policies, new indexes",
        plant: &[
            "create table feature (id int generated always as identity primary key, wedding_id int references weddings);
             create index on feature (wedding_id); alter table feature enable row level security;
             create policy own on feature to web using (current_setting('app.user', true) <> '');
             create policy always on feature as restrictive to web using (id > 0);
             grant select, insert, update on feature to web; alter table guests add column extra text",
            "create index concurrently on guests (extra, name)",
            "drop table messages",
            "create function seats_left() returns bigint language sql security definer set search_path = pg_catalog, pg_temp as 'select count(*) from public.seats'",
            "select bench.settle()",
        ],
        samples: 20,
        ..NOTHING
    },
    Planted {
        kind: "an index that takes 10 minutes to build",
        // The build waits for a transaction that is at work, as it would for a long report.
        sessions: &["begin; insert into guests (wedding_id, name) values (1, 'late'); select pg_sleep(0)", "create index concurrently slow_one on guests (note)"],
        // That one is idle, and told: what is asked here is only the index.
        also: &["idle-in-transaction"],
        samples: 10,
        ..NOTHING
    },
    Planted {
        kind: "a table under ACCESS EXCLUSIVE at the moment of the sample",
        sessions: &["begin; lock table guests in access exclusive mode; select pg_sleep(0)"],
        also: &["idle-in-transaction"],
        samples: 3,
        ..NOTHING
    },
    Planted {
        kind: "a VACUUM by hand that takes 15 minutes",
        prepare: "update guests set answer = 'yes'",
        sessions: &["set vacuum_cost_delay = 100; set vacuum_cost_limit = 1; vacuum guests"],
        also: &["dead-tuples"],
        samples: 15,
        ..NOTHING
    },
    Planted {
        kind: "a small table that is written all the time",
        every_minute: "do $$ begin for n in 1..300 loop update seats set taken = taken + 1 where id = 1 + n % 10; end loop; end $$; select bench.flush()",
        samples: 15,
        ..NOTHING
    },
    Planted {
        kind: "statistics that are reset",
        as_ever: "select count(*) from guests",
        plant: &["select pg_stat_reset()", "select pg_stat_statements_reset()"],
        every_minute: "select count(*) from guests",
        samples: 20,
        ..NOTHING
    },
];

-- given: changes that nobody fetches, since there is no bus
insert into monitoring.outbox (created_at, detail_type, dedup_key, detail) select now() - interval '2 hours', 'pgvigil.event.opened.v1', n::text, '{}' from generate_series(1, 3) n;
-- then: none
-- given: somebody tries to publish them, and fails
update monitoring.outbox set attempts = 9, last_error = 'AccessDeniedException' where dedup_key = '1';
-- then: warning waiting
-- given: the bus takes them again
update monitoring.outbox set published_at = now(), last_error = null;
-- then: none
-- given: one that it refuses by itself
insert into monitoring.outbox (created_at, detail_type, dedup_key, detail, attempts, last_error, given_up_at) values (now() - interval '3 hours', 'pgvigil.readiness.v1', '4', '{}', 8, 'ValidationException', now());
-- then: warning given up
-- given: a week has passed
update monitoring.outbox set given_up_at = now() - interval '8 days'; select cleanup_old_monitoring_data();
-- then: none

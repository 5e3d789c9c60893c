-- then: none
-- given: a sample
set role monitoring_agent; select monitoring.sample(); reset role;
-- then: none
-- given: it was the last
update monitoring.samples set sampled_at = now() - interval '5 minutes';
-- then: warning sampler
-- given: and that is long ago
update monitoring.samples set sampled_at = now() - interval '50 minutes';
-- then: critical sampler
-- given: the sampler is back
delete from monitoring.samples; set role monitoring_agent; select monitoring.sample(); reset role;
-- then: none

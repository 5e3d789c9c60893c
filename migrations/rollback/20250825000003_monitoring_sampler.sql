-- Undoes 20250825000003_monitoring_sampler.sql. Samples taken so far stay until the history is rolled back.

drop function if exists monitoring.sample(timestamptz);
do $forget$
begin
  if pg_catalog.to_regclass('monitoring.migrations') is not null then
    delete from monitoring.migrations where version = '20250825000003';
  end if;
end
$forget$;

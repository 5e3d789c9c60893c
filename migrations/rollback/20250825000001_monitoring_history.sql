-- Undoes 20250825000001_monitoring_history.sql, the samples with it.

drop function if exists monitoring.drop_expired_samples(), monitoring.ensure_sample_partition(date);
drop table if exists monitoring.samples;
do $forget$
begin
  if pg_catalog.to_regclass('monitoring.migrations') is not null then
    delete from monitoring.migrations where version = '20250825000001';
  end if;
end
$forget$;

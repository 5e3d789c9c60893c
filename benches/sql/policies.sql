-- Policies number :first to :last, on tables that have row-level security and on some that have not: an own-rows policy mostly,
-- one in ten that lets everybody through, one in eight that only narrows.
do $policies$
declare
  v_table bigint;
begin
  for v_number in :first .. :last loop
    v_table := 1 + (v_number * 3) % :tables;
    execute format('create policy %I on %I.%I as %s for %s to %s using (%s)',
      'policy ' || v_number,
      case v_table % :schemas when 0 then 'public' else 'app_' || v_table % :schemas end,
      'records_of_module_' || v_table,
      case when v_number % 8 = 5 then 'restrictive' else 'permissive' end,
      (array['all', 'select', 'update', 'delete'])[1 + v_number % 4],
      (array['authenticated', 'anon, authenticated', 'public', 'service_role'])[1 + v_number % 3],
      case when v_number % 10 = 1 then 'true' else 'owner_id = auth.uid() and status <> ''deleted''' end);
  end loop;
end
$policies$;

-- Policies number :first to :last: own rows mostly, one in ten that lets everybody through, one in eight that only narrows, and one
-- in ten on a table where row-level security was forgotten, if it was not on already.
do $policies$
declare
  v_number_of_table int;
  v_table text;
begin
  for v_number in :first .. :last loop
    v_number_of_table := 1 + (v_number * 3) % :tables;
    v_table := format('%I.%I', case v_number_of_table % :schemas when 0 then 'public' else 'app_' || v_number_of_table % :schemas end,
      'records_of_module_' || v_number_of_table);
    execute format('create policy %I on %s as %s for %s to %s using (%s)',
      'policy ' || v_number, v_table,
      case when v_number % 8 = 5 then 'restrictive' else 'permissive' end,
      (array['all', 'select', 'update', 'delete'])[1 + v_number % 4],
      (array['authenticated', 'anon, authenticated', 'public', 'service_role'])[1 + v_number % 3],
      case when v_number % 10 = 1 then 'true' else 'owner_id = auth.uid() and status <> ''deleted''' end);
    if v_number % 10 <> 2 then
      execute format('alter table %s enable row level security', v_table);
    end if;
  end loop;
end
$policies$;

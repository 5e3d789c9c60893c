-- What a database holds, one line a thing, for servers newer than the pg_dump at hand. An access list means the
-- same in any order, and none is the default one.
with spaces as (
  select oid, nspname from pg_namespace where nspname !~ '^pg_' and nspname <> 'information_schema'
), relations as (
  select c.*, s.nspname || '.' || c.relname as name from pg_class c join spaces s on s.oid = c.relnamespace
)
select 'schema ' || n.nspname || ' ' || n.nspowner::regrole || ' '
  || array(select a::text from unnest(coalesce(n.nspacl, acldefault('n', n.nspowner))) a order by 1)::text || ' ' || coalesce(obj_description(n.oid, 'pg_namespace'), '') as definition
from pg_namespace n join spaces s on s.oid = n.oid
union all
select 'relation ' || r.relkind::text || ' ' || r.name || ' ' || r.relowner::regrole || ' ' || r.relrowsecurity || r.relforcerowsecurity
  || ' ' || coalesce(r.reloptions::text, '') || ' ' || array(select grants::text from unnest(coalesce(r.relacl, acldefault(case r.relkind when 'S' then 's' else 'r' end::"char", r.relowner))) grants order by 1)::text || ' ' || coalesce(obj_description(r.oid, 'pg_class'), '')
  || ' ' || case when r.relkind in ('v', 'm') then pg_get_viewdef(r.oid) else '' end
  || ' ' || coalesce(pg_get_partkeydef(r.oid), '') || ' ' || coalesce(pg_get_expr(r.relpartbound, r.oid), '')
from relations r
union all
select 'column ' || r.name || ' ' || a.attnum || ' ' || a.attname || ' ' || format_type(a.atttypid, a.atttypmod) || ' ' || a.attnotnull
  || ' ' || coalesce(pg_get_expr(d.adbin, d.adrelid), '') || ' ' || array(select grants::text from unnest(a.attacl) grants order by 1)::text
from pg_attribute a join relations r on r.oid = a.attrelid left join pg_attrdef d on d.adrelid = a.attrelid and d.adnum = a.attnum
where a.attnum > 0 and not a.attisdropped
union all
select 'constraint ' || r.name || ' ' || c.conname || ' ' || pg_get_constraintdef(c.oid) from pg_constraint c join relations r on r.oid = c.conrelid
union all
select 'index ' || pg_get_indexdef(i.indexrelid) from pg_index i join relations r on r.oid = i.indrelid
union all
select 'function ' || p.proowner::regrole || ' ' || pg_get_functiondef(p.oid) || ' ' || array(select grants::text from unnest(coalesce(p.proacl, acldefault('f', p.proowner))) grants order by 1)::text
  || ' ' || coalesce(obj_description(p.oid, 'pg_proc'), '')
from pg_proc p join spaces s on s.oid = p.pronamespace where p.prokind in ('f', 'p')
union all
select 'policy ' || r.name || ' ' || p.polname || ' ' || p.polcmd::text || ' ' || p.polpermissive || ' ' || p.polroles::regrole[]::text || ' '
  || coalesce(pg_get_expr(p.polqual, p.polrelid), '') || ' ' || coalesce(pg_get_expr(p.polwithcheck, p.polrelid), '')
from pg_policy p join relations r on r.oid = p.polrelid
union all
select 'default ' || d.defaclrole::regrole || ' ' || d.defaclnamespace || ' ' || d.defaclobjtype::text || ' ' || d.defaclacl::text from pg_default_acl d
union all
select 'trigger ' || pg_get_triggerdef(t.oid) from pg_trigger t where not t.tgisinternal
union all
select 'extension ' || extname from pg_extension
order by definition;

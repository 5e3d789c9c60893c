-- A session that was left in the middle: a breakpoint, a lost request, a forgotten terminal.
begin;
select count(*) from seating_plans;
\sleep 86400 s
commit;

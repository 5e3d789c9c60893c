-- cluster: max_prepared_transactions = 2
-- given: a table
create table guests (id int); insert into guests values (1);
-- then: none
-- given: a transaction that keeps a row, and one that wants it
-- session a: begin; update guests set id = 2
-- session b: update guests set id = 3
-- then: warning pid {a}
-- given: the first has ended
-- end: a
-- then: none
-- given: a transaction that was prepared and forgotten: no session is to be ended
begin; update guests set id = 4; prepare transaction 'forgotten';
-- session c: update guests set id = 5
-- then: warning prepared transaction
-- given: what the remedy says
do $$ begin
  assert (select remediation like '%rollback prepared%' and remediation not like '%terminate%' from monitoring.findings() where check_id = 'blocking-session');
end $$;
rollback prepared 'forgotten';
-- then: none

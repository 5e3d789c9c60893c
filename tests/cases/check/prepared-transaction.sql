-- cluster: max_prepared_transactions = 2
-- given: an operator with less patience
update monitoring.thresholds set warning = 200, critical = 600000 where check_id = 'prepared-transaction';
create table guests (id int);
-- then: none
-- given: a transaction that was prepared and forgotten
begin; insert into guests values (1); prepare transaction 'a secret';
-- then: warning transaction *
-- given: somebody remembers
rollback prepared 'a secret';
-- then: none

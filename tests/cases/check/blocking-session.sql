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

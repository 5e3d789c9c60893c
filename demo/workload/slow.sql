-- How many guests does each of the next weddings expect? Without an index on guests.wedding_id, every wedding
-- costs a walk over all guests. The address in it shows that previews carry no literals.
select w.couple, w.ceremony_at,
       (select count(*) from guests g
         where g.wedding_id = w.id and g.attending and g.email <> 'bride.to.be@example.org') as expected
  from weddings w
 where w.ceremony_at > now()
 order by w.ceremony_at
 limit 60;
\sleep 100 ms

select 1
select 1, 'two', 3.5, null, true, 1e10, 99999999999, '2020-01-01'::date
select -5, - 5, +7, -2147483648, 2147483648, 1.50, -0.001, 1e-7, 123456789012345678901234567890.5
select 'NaN'::numeric, 'Infinity'::numeric, '-Infinity'::float8, 'nan'::float4, 0.1::float4, 0.1::float8, 1e300::float8
select date '2020-02-29', timestamp '2020-01-01 12:34:56.789', timestamptz '2020-01-01 00:00:00+02', time '23:59:59.5', interval '1 year 2 mons -3 days 04:05:06.7', interval '-1 day', interval '-2 mons +1 day'
select date 'infinity', timestamp '-infinity', date '0044-03-15 BC', timestamptz '4000-01-01'
select E'a\\b\'c\n', 'it''s', '\x00ff'::bytea, 'abc'::name, 'x'::"char", '{"a": 1}'::json, '00000000-0000-0000-0000-000000000001'::uuid
select 'abc'::varchar(2), 'abc'::char(5), 'abc'::varchar, 12.345::numeric(5,1), '1.2'::numeric(10,3)
select id, name from s.cust where id = 5
select * from s.cust where id in (1, 2, 3) order by id
select * from s.cust c where c.name like 'name1%' and not (region = 'north' or region is null) order by 1 desc
select id from s.cust where name ilike 'NAME_' or name similar to 'name1(0|1)' or name ~ '9$' order by id
select id from s.cust where region is distinct from 'north' order by id
select id from s.cust where region is not distinct from 'north' order by id
select id from s.cust where balance between 5 and 10 and born not between date '2000-01-03' and date '2000-01-05' order by id
select id from s.cust where id between symmetric 9 and 3 order by id
select id, balance * 2 + 1 as b2, id % 3, id / 2, -id, id ^ 2, @ (id - 10) from s.cust order by id
select count(*), count(region), count(distinct region), sum(balance), avg(balance), min(name), max(born) from s.cust
select region, count(*) from s.cust group by region order by region nulls first
select region, count(*) as n from s.cust group by 1 having count(*) > 6 order by n desc, 1
select region, active, sum(balance) from s.cust group by region, active order by 1, 2
select upper(region) u, sum(id) from s.cust group by upper(region) order by upper(region)
select region, sum(balance) filter (where active) from s.cust group by region order by 1
select string_agg(name, ',' order by id desc) from s.cust where id < 5
select array_agg(distinct region order by region) from s.cust
select string_agg(distinct region, '|' order by region desc) from s.cust
select percentile_cont(0.5) within group (order by balance), mode() within group (order by region) from s.cust
select rank(5) within group (order by id) from s.cust
select region, active, count(*) from s.cust group by grouping sets ((region), (active), ()) order by 1, 2, 3
select region, active, count(*), grouping(region, active) from s.cust group by rollup (region, active) order by 1, 2, 3
select region, active, count(*) from s.cust group by cube (region, active) order by 1, 2, 3
select region, active, count(*) from s.cust group by distinct rollup (region), rollup (active, region) order by 1, 2, 3
select distinct region from s.cust order by region
select distinct on (region) region, id from s.cust order by region, id desc
select distinct region, active from s.cust order by 2, 1
select id from s.cust order by name collate "C" desc nulls last limit 3
select id from s.cust order by born offset 2 limit 4
select id from s.cust order by id fetch first 2 rows only
select active from s.cust order by active fetch first 1 rows with ties
select id from s.cust order by balance using >
select id from s.cust order by id limit all
select id from s.cust order by id limit (select 3) offset 1 + 1
select c.name, o.id from s.cust c join s.ord o on o.cust_id = c.id where o.qty > 2 order by 2
select c.name, o.id from s.cust c, s.ord o where o.cust_id = c.id order by 2
select c.id, o.id from s.cust c left join s.ord o on o.cust_id = c.id and o.qty = 1 order by 1, 2
select c.id, o.id from s.ord o right join s.cust c on o.cust_id = c.id order by 1, 2
select c.id, o.id from s.ord o full join s.cust c on o.cust_id = c.id order by 1, 2
select id, c.name, o.qty from s.cust c join s.ord o using (id) order by id
select id, c.name, o.qty from s.cust c full join s.ord o using (id) order by id
select * from s.cust c right join s.ord o using (id) order by id
select * from s.cust natural join s.ord order by id
select count(*) from s.cust cross join s.ord
select j.id, j.name from (s.cust join s.ord using (id)) as j order by 1
select a.id, b.id, c.n from s.cust a join (s.ord b join s.item c on c.ord_id = b.id) on b.cust_id = a.id order by 1, 2, 3
select a.id, x.n from s.ord a left join (s.ord b join s.item i on i.ord_id = b.id) x(i1,c1,q,p,a1,n1,u,r,s1,w,d1,o2,n,sk,am) on x.i1 = a.id order by 1, 2
select a.id, b.id from s.cust a, s.cust b where a.id < b.id and a.region = b.region order by 1, 2
select sub.n, sub.r from (select count(*) as n, region as r from s.cust group by region) sub order by 1, 2
select x from (select id from s.cust) t(x) where x < 3 order by x
select * from (select 1 as a, 2 as a) t
select c.id, l.m from s.cust c, lateral (select max(price) m from s.ord o where o.cust_id = c.id) l order by 1
select c.id, l.id from s.cust c left join lateral (select id from s.ord o where o.cust_id = c.id order by id limit 1) l on true order by 1
select id from s.cust where id in (select cust_id from s.ord where qty > 3) order by id
select id from s.cust where id not in (select cust_id from s.ord where qty > 3) order by id
select id from s.cust c where exists (select 1 from s.ord o where o.cust_id = c.id and o.qty = 4) order by id
select id from s.cust c where not exists (select * from s.ord where cust_id = c.id) order by id
select id, (select count(*) from s.ord o where o.cust_id = c.id) from s.cust c order by id
select id, array(select o.id from s.ord o where o.cust_id = c.id order by 1) from s.cust c order by id
select id from s.cust where (id, region) in (select cust_id, 'south' from s.ord) order by id
select id from s.cust where balance > all (select price from s.ord where price < 1) order by id
select id from s.cust where id = any (select cust_id from s.ord) order by id
select id from s.cust where id = any (array[1,2,3]) order by id
select id from s.cust where id = any ('{4,5,6}') order by id
select id from s.cust where region = any ('{north,NULL}'::text[]) order by id
select id from s.cust where name <> all (array['name1', 'name2']) order by id
select id from s.cust where (id, name) = (3, 'name3')
select id from s.cust where (id, name) > (10, 'name5') order by id
select id from s.cust where row(id, name) = (select 3, 'name3')
select id from s.cust where row(id, name) >= (select 18::int8, 'name1') order by id
select case when id < 5 then 'low' when id < 10 then 'mid' else 'high' end, count(*) from s.cust group by 1 order by 1
select case region when 'north' then 1 when 'south' then 2 end from s.cust order by id
select case id when 1 then 'one' else 'many' end from s.cust order by id
select case when active then balance end from s.cust order by id
select coalesce(region, 'none'), nullif(id, 3), greatest(id, 5, 7), least(balance, 3) from s.cust order by id
select nullif(region, 'north') from s.cust order by id
select active is true, active is not true, active is false, active is unknown, (region = 'x') is not unknown, region is null, region is not null from s.cust order by id
select row(id, name), row(1), (id, 2) from s.cust order by id
select row(1, 2) is null, row(null, null) is null
select array[1, 2, 3], array[[1,2],[3,4]], array[]::int[], array['a', null], array[id, 1] from s.cust order by id
select tags[1], tags[1:2], tags[:1], tags[2:], (array[1,2,3])[2] from s.cust order by id
select tags || 'x'::text, 'y'::text || tags, tags @> array['all'], cardinality(tags) from s.cust order by id
select name || '!' || id, id || 'x', length(name), substring(name from 2 for 3), position('m' in name), trim(both 'n' from name), overlay(name placing 'zz' from 1 for 2) from s.cust order by id
select extract(year from born), date_part('month', born), date_trunc('hour', made), made at time zone 'UTC', born + 1, born - date '2000-01-01' from s.cust order by id
select at + interval '1 day', at - interval '2 hours', age(at, timestamp '2020-01-01'), at::date, wait * 2 from s.ord order by id
select id::text, id::int4, balance::int8, balance::float8, name::varchar(3), id::numeric(10,2), code::text, '5'::int4, active::text, active::int4 from s.cust order by cust.id
select cast(id as text), cast('2020-01-01' as date), id::text::int8 from s.cust order by cust.id
select m, m > 'sad', m::text, enum_range(m) from s.cust order by id
select id from s.cust where m = 'happy' order by id
select m = any ('{sad,ok}'::s.mood[]) from s.cust order by id
select 5::s.positive + 1
select ratio, small, ratio * 2, small + 1, small::int8, price::float4 from s.ord order by id
select uid from s.ord where uid = '00000000-0000-0000-0000-000000000007'
select note from s.ord where note < 'Note F' order by note desc, id
select note from s.ord order by note collate "POSIX" desc, id limit 3
select name collate "C" < 'name5' collate "C" from s.cust order by id
select id, row_number() over (order by id), rank() over (partition by region order by balance desc) from s.cust order by id
select id, sum(balance) over w, avg(balance) over (w rows between 1 preceding and current row) from s.cust window w as (partition by region order by id) order by id
select id, sum(id) over (order by id rows between unbounded preceding and 1 following exclude current row), count(*) over () from s.cust order by id
select id, sum(id) over (order by id groups between 1 preceding and 1 following), lag(name, 2, 'none') over (order by id), first_value(id) over (order by born range between '2 days' preceding and current row) from s.cust order by id
select region, sum(sum(balance)) over (order by region), rank() over (order by count(*) desc) from s.cust group by region order by 1
select id, count(*) filter (where active) over (partition by region) from s.cust order by id
select ntile(4) over (order by id range between current row and unbounded following) from s.cust order by 1
select id from s.cust where id < 3 union select id from s.ord where id < 5 order by 1
select id, name from s.cust where id < 3 union all select id, note from s.ord where id < 3 order by 1, 2
select id from s.cust intersect select cust_id from s.ord order by id desc
select id from s.cust except select cust_id from s.ord order by 1 limit 4
(select id from s.cust where id < 3 union select 7) except all (select 1 intersect select 1) order by 1
select 1 union select 2.5 union all select null order by 1
select 'a' union select name from s.cust where id = 1 order by 1
(select id from s.cust order by id desc limit 2) union all (select id from s.ord order by id limit 2)
select u.x, count(*) from (select region x from s.cust union all select note from s.ord) u group by u.x order by 1
values (1, 'a'), (2, 'b')
values (1, 2.5), (3, null) order by 1 desc
select * from (values (1, 'one'), (2, 'two')) v(n, t) where n > 1
select v.n, c.name from (values (1), (2)) v(n) join s.cust c on c.id = v.n order by 1
with c as (select id, region from s.cust where active) select region, count(*) from c group by region order by 1
with a as (select id from s.cust), b(x) as materialized (select id + 1 from a) select a.id, b.x from a join b on b.x = a.id order by 1
with a as not materialized (select id from s.cust where id < 4) select * from a union all select * from a order by 1
with recursive t(n) as (values (1) union all select n + 1 from t where n < 5) select n from t order by n
with recursive t as (select id, cust_id, 1 as depth from s.ord where id = 1 union select o.id, o.cust_id, depth + 1 from s.ord o join t on o.id = t.cust_id + t.id where depth < 5) select * from t order by 1, 3
with x as (select 1 as a) select (with x as (select 2 as a) select a from x), a from x
with a as (select 1 as v) select * from a where exists (with b as (select * from a) select 1 from b)
with d as (delete from s.item where ord_id = 3 returning *) select count(*), sum(amount) from d
with u as (update s.cust set balance = balance + 1 where id < 3 returning id, balance) select * from u order by 1
with i as (insert into s.item values (100, 1, 'x', 5) returning ord_id) select * from i
select g from generate_series(1, 5) g
select g.x, o from generate_series(1, 3) with ordinality g(x, o)
select a, b from s.pairs(3) order by a
select p.* from s.pairs(2) p order by 1
select c.id, t from s.cust c, unnest(c.tags) t order by 1, 2
select * from unnest(array[1,2], array['a','b','c']) u(x, y)
select * from rows from (generate_series(1, 2), s.pairs(3)) r(a, b, c)
select * from json_to_recordset('[{"a":1,"b":"x"}]') as r(a int4, b text)
select * from json_each_text('{"a": 1, "b": "c"}')
select generate_series(1, 3), id from s.cust where id < 3 order by 2, 1
select s.add(1, 2), s.add(5), s.add(b => 4, a => 3), s.vsum(1, 2, 3), s.vsum(variadic array[4, 5])
select concat('a', 1, null, 'b'), format('%s-%s', 'x', 5), coalesce(null, 'z')
select concat_ws(',', variadic array['a', 'b'])
select * from s.v where region = 'NORTH' order by id
select v.name, o.qty from s.v join s.ord o on o.cust_id = v.id order by 1, 2
select "Col A", "sel""ect", "from" from s."Odd Name" order by 1
select o."Col A" + 1 as "Mixed Case" from s."Odd Name" o order by 1
select count(*) from only s.cust
select count(*) from s.cust tablesample system (100)
select count(*) from s.cust tablesample bernoulli (100) repeatable (1)
select ctid is not null, tableoid > 0 from s.cust order by id limit 1
select c from s.cust c where id = 1
select count(c) from s.cust c
select (select max(o.id) from s.ord o where o.cust_id = c.id and o.price > (select avg(price) from s.ord i where i.cust_id = o.cust_id)) from s.cust c order by c.id
select region from s.cust c group by region having count(*) > (select 5) order by 1
select sum(x.q) from (select sum(qty) q from s.ord group by cust_id having sum(qty) > 3) x
select c.id from s.cust c order by (select count(*) from s.ord o where o.cust_id = c.id), 1
select id from s.cust group by id order by id
select name, id from s.cust group by id order by id
select c.name, count(o.id) from s.cust c left join s.ord o on o.cust_id = c.id group by c.id order by c.id
select id as a, name as id from s.cust order by a
select id as name from s.cust order by name desc limit 3
select id + 1 as x from s.cust where id + 1 > 18 order by id + 1
select 1 as one, 'c' as two from s.cust group by one, two
select sum(id) from s.cust group by ()
select true and false or not true, 1 = 1 and 2 <> 3
select 'a' < 'b', 'a' || 'b' = 'ab', null is null, null = 1
select 1 where false
select from s.cust where id = 1
select 10 / 4, 10 / 4.0, 10 % 3, 2 ^ 10, |/ 16.0, 5 & 3, 5 | 3, 5 # 3, ~ 5, 1 << 4
select id from s.cust where id = 1 for update
select c.id from s.cust c join s.ord o on o.cust_id = c.id where c.id = 1 order by o.id for share of c nowait
select id from s.cust where id < 3 order by id for no key update skip locked
select current_date is not null, current_timestamp(3) is not null, localtime is not null, current_user = user, now() is not null, current_schema is null
select to_char(balance, '999.99'), to_date('2020-01-02', 'YYYY-MM-DD'), md5(name), left(name, 2), replace(name, 'a', 'b') from s.cust order by id
select name ^@ 'na', starts_with(name, 'x'), name between 'a' and 'z' from s.cust order by id
select regexp_replace(name, '(\d+)', '<\1>', 'g') from s.cust order by id
select round(balance, 1), ceil(balance), power(2, 3), mod(id, 3), abs(-5), sign(-2.5), trunc(1.999, 2) from s.cust order by id
select (date '2020-01-01', interval '3 days') overlaps (date '2020-01-02', date '2020-01-05')
select $1::int8 + $2, $3 from s.cust where id = $1 and name = $4
select id from s.cust where id = any ($1) and m = $2 limit $3 offset $4
insert into s.item values (200, 1, 'a', 1.5)
insert into s.item (ord_id, n, sku) values (200, 1, 'a'), (201, 2, default) returning *
insert into s.item select id + 300, 1, name, balance from s.cust where id < 4 returning ord_id, amount
insert into s.item (n, ord_id) select qty, id + 400 from s.ord where id < 4
insert into s.cust (id, name, tags, m, code) values (100, 'new', '{a,b}', 'ok', 'zz') returning id, balance, made, active, code
insert into s.cust (id, name, region, born) values (101, 'x', 'r', '2020-01-01'), (102, 'y', null, '2020-01-02') returning id
insert into s.idt (v, t) values (5, 'x') returning v, g
insert into s.idt (v) values (5), (6) returning v, g, t
insert into s.idt (id, v) overriding system value values (50, 5) returning *
insert into s.ser (v, w) values ('a', 5) on conflict (v) do update set w = excluded.w + ser.w where ser.w < 100 returning v, w
insert into s.ser (v, w) values ('a', 5), ('c', 6) on conflict do nothing returning v
insert into s.ser (v) values ('b') on conflict on constraint ser_v_key do update set (v, w) = (excluded.v || '!', 9) returning v, w
insert into s.ser as z (v) values ('b') on conflict (v) do nothing
insert into s.idt default values returning v, t
with x as (select 7 as v) insert into s.idt (v) select v from x returning v
insert into s.item (ord_id, n, amount) values ((select max(id) from s.ord) + 500, 1 + 1, 10 / 4)
insert into s.item select * from (values (600, 1, 'q', 2.5), (601, 1, 'r', 3)) v
insert into s.item select ord_id + 700, n, sku, amount from s.item where ord_id < 3 union all select 800, 1, 'u', 1
update s.cust set balance = balance + 10 where id = 3
update s.cust set name = upper(name), region = default, active = not active where id in (1, 2) returning id, name, region, active
update s.cust c set balance = o.price, region = 'upd' from s.ord o where o.cust_id = c.id and o.id = 6 returning c.id, c.balance, o.id
update s.cust c set balance = (select sum(price) from s.ord o where o.cust_id = c.id)
update only s.cust set (name, region) = ('a', 'b') where id = 5 returning *
update s.ord set at = at + interval '1 day', note = note || '!' where day = '2021-01-03'
update s.v set name = 'via view' where id = 3
with t as (select id from s.cust where id < 3) update s.cust set name = 'w' from t where cust.id = t.id returning cust.id
update s.cust set tags = array_append(tags, 'x'), m = 'happy' where m = 'sad' returning id, m, tags
delete from s.item where ord_id = 5
delete from s.item i using s.ord o where o.id = i.ord_id and o.qty = 2 returning i.ord_id, o.qty
delete from only s.cust where not exists (select 1 from s.ord where cust_id = cust.id) returning id
with gone as (select ord_id from s.item where amount > 20) delete from s.item where ord_id in (select ord_id from gone)
delete from s.cust
delete from s.v where id = 5 returning *
select '{"a": 1, "b": [1.50, -0, 1e3, "x\"y\\\\z\\u0001é", null, true, false, {}, []], "longer key": {"n": {"m": [[[1]]]}}}'::jsonb
select '"text"'::jsonb, '7'::jsonb, 'null'::jsonb, 'true'::jsonb, '[]'::jsonb, '{}'::jsonb, '0.00001000'::jsonb, '123456789012345678901234567890.5'::jsonb
select '[0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31,32,33,34,35,36,37,38,39,40,"a",41,{"k":"v"},42,43,44,45,46,47,48,49,50,51,52,53,54,55,56,57,58,59,60,61,62,63,64,65,66,67]'::jsonb
select '{"k00":0,"k01":"1","k02":[2],"k03":{"a":3},"k04":4.25,"k05":null,"k06":6,"k07":7,"k08":8,"k09":9,"k10":10,"k11":11,"k12":12,"k13":13,"k14":14,"k15":15,"k16":16,"k17":17,"k18":18,"k19":19,"k20":20,"k21":21,"k22":22,"k23":23}'::jsonb -> 'k04'
select array['{"a": 1}', '[1, 2]', null]::jsonb[], array['{"a":  1}', '2']::json[], '{}'::jsonb[]
select time with time zone '12:34:56.789+05:30', time with time zone '24:00:00-08', array['01:02:03+00', '04:05:06.5-00:00:30']::timetz[], array['1 day', '-2 mons 03:04:05.000006']::interval[]
select inet '10.1.2.3/8', inet '::1', cidr '192.168.0.0/16', cidr 'fe80::/10', inet '::ffff:1.2.3.4', array['10.0.0.1', 'abcd::12/64']::inet[], array['10.0.0.0/8']::cidr[], macaddr '08:00:2b:01:02:03'
select b'10110', b'', x'1ff', '1'::bit(1), '10101'::varbit, array[b'1', b'011']::bit[], array['01', '']::varbit[]
select int4range(1, 5), '[2024-01-01 00:00+00,2024-02-01 12:30:00.5+00)'::tstzrange, 'empty'::daterange, numrange(1.5, NULL), '(,)'::int8range, '[1.25,2.50]'::numrange, '(,2024-01-01 10:00]'::tsrange, '[2024-02-29,infinity)'::daterange, '(-1,9223372036854775807)'::int8range, numrange(-123456789.000000001, 1e30, '()'), '(0044-03-15 BC,)'::daterange

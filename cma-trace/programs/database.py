# Statements for sqlite3 that fill, sort, group, delete and vacuum: python3 database.py SEED ROWS
import random,sys
r=random.Random(int(sys.argv[1]));n=int(sys.argv[2])
print("pragma cache_size=-20000; create table t(a integer primary key,b text,c int); create index i on t(c); begin;")
for k in range(n): print(f"insert into t(b,c) values('{'x'*r.randint(10,3000)}',{r.randint(0,10**6)});")
print("commit; select count(*) from (select * from t order by b,c); update t set b=b||b where c%7=1; select sum(length(group_concat)) from (select group_concat(b) as group_concat from t group by c%50); delete from t where c%3=0; vacuum; select length(hex(zeroblob(3000000)));")

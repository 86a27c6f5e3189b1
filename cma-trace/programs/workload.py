# Buffers, lists and dictionaries of random sizes, some of which stay: python3 workload.py SEED
import sys,random,zlib,json,bz2
r=random.Random(int(sys.argv[1]));keep=[]
for i in range(400):
    b=bytearray(int(4096+r.random()**3*3e6));b[::53]=bytes(len(b[::53]))
    z=zlib.compress(bytes(b),1)
    l=[r.random() for _ in range(r.randint(100,30000))];d={k:str(k) for k in range(r.randint(10,20000))}
    t=json.dumps(l);
    if i%7==0:keep.append((b,z))
    if i%3==0:keep.append(l)
    if i%5==0:keep.append(d)
    if i%11==0:keep.append(bz2.compress(t.encode(),3))
    if len(keep)>40:
        for _ in range(12):keep.pop(r.randrange(len(keep)))

// Buffers of random sizes, compressed and parsed, some of which stay: node workload.js SEED
const seed=+process.argv[2];let s=seed;const rnd=()=>{s=(s*1103515245+12345)%2147483648;return s/2147483648};
const zlib=require('zlib');let keep=[];
for(let i=0;i<300;i++){const n=Math.floor(4096+rnd()*rnd()*2e6);const b=Buffer.alloc(n);for(let j=0;j<n;j+=97)b[j]=rnd()*256;
 const z=zlib.gzipSync(b);const u=zlib.gunzipSync(z);if(rnd()<0.3)keep.push(z);if(rnd()<0.15)keep.push(u);if(keep.length>60)keep.splice(Math.floor(rnd()*40),15);
 const o=JSON.parse(JSON.stringify(Array.from({length:2000},(_, k)=>({k,v:'y'.repeat(k%40)}))));if(i%20==0)keep.push(o)}
console.log(keep.length)

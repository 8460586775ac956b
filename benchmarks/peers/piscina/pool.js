// No-op calls a second through Piscina with two threads: node pool.js CALLS ROUNDS prints them, as JSON.
const path = require('node:path');
const { Piscina } = require('piscina');

const [calls, rounds] = process.argv.slice(2).map(Number);

async function main() {
  const pool = new Piscina({
    filename: path.join(__dirname, 'worker.js'), minThreads: 2, maxThreads: 2, maxQueue: Infinity,
  });
  for (let i = 0; i < 500; i++) await pool.run(i, { name: 'noop' });
  const rates = [];
  for (let round = 0; round < rounds; round++) {
    const began = process.hrtime.bigint();
    const results = [];
    for (let i = 0; i < calls; i++) results.push(pool.run(i, { name: 'noop' }));
    const sum = (await Promise.all(results)).reduce((a, b) => a + b, 0);
    rates.push(calls / (Number(process.hrtime.bigint() - began) / 1e9));
    if (sum !== (calls * (calls - 1)) / 2) throw new Error(`the results are wrong: ${sum}`);
  }
  console.log(JSON.stringify(rates));
  await pool.destroy();
}

main();

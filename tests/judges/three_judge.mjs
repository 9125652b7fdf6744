// Opens GLB files with three.js in headless Chromium and says what it found.
// Standard input: {"chromium": path, "jobs": [{"path": GLB, "moments": [{"clip": name, "time_s": s}], "screenshot": PNG or null}]}.
// The file named by the first argument receives a JSON list, one report a job (see three_page.html).
// Only 127.0.0.1 is used: a server of this process hands out the page, three's modules and the files.
import { createServer } from "node:http";
import { readFileSync, writeFileSync } from "node:fs";
import { dirname, join, normalize, sep } from "node:path";
import { fileURLToPath } from "node:url";
import { chromium } from "playwright-core";

const here = dirname(fileURLToPath(import.meta.url));
const order = JSON.parse(readFileSync(0, "utf8"));
const kinds = { ".html": "text/html", ".js": "text/javascript" };

const server = createServer((request, response) => {
  const address = new URL(request.url, "http://127.0.0.1").pathname;
  let file;
  if (address.startsWith("/job/")) file = order.jobs[Number(address.slice(5))]?.path;
  else if (address === "/") file = join(here, "three_page.html");
  else if (address.startsWith("/three/")) {
    const root = join(here, "node_modules", "three") + sep;
    const wanted = normalize(join(root, address.slice(7)));
    if (wanted.startsWith(root)) file = wanted;
  }
  if (!file) return response.writeHead(404).end();
  const suffix = file.slice(file.lastIndexOf("."));
  response.writeHead(200, { "content-type": kinds[suffix] ?? "application/octet-stream" });
  response.end(readFileSync(file));
});
await new Promise((ready) => server.listen(0, "127.0.0.1", ready));

const browser = await chromium.launch({
  executablePath: order.chromium,
  headless: true,
  args: ["--no-sandbox", "--use-angle=swiftshader", "--enable-unsafe-swiftshader", "--ignore-gpu-blocklist", "--disable-dev-shm-usage"],
});
const reports = [];
try {
  const page = await browser.newPage();
  const complaints = [];
  page.on("console", (message) => ["error", "warning"].includes(message.type()) && complaints.push(message.text()));
  page.on("pageerror", (error) => complaints.push(String(error)));
  await page.goto(`http://127.0.0.1:${server.address().port}/`);
  await page.waitForFunction(() => window.judge, null, { timeout: 60000 });
  for (const [number, job] of order.jobs.entries()) {
    complaints.length = 0;
    const report = await page.evaluate(([url, moments, picture]) => window.judge(url, moments, picture), [
      `/job/${number}`,
      job.moments ?? [],
      Boolean(job.screenshot),
    ]);
    if (job.screenshot) writeFileSync(job.screenshot, Buffer.from(report.picture.split(",")[1], "base64"));
    delete report.picture;
    reports.push({ path: job.path, ...report, complaints: [...complaints] });
  }
} finally {
  await browser.close();
  server.close();
}
writeFileSync(process.argv[2], JSON.stringify(reports));

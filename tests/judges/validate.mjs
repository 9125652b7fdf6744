// Reads a JSON list of GLB paths on standard input; writes the Khronos validator's report of each, as a JSON list, to the file named
// by the first argument. One process for many files: the validator takes milliseconds, starting it takes longer.
import { readFileSync, writeFileSync } from "node:fs";
import { validateBytes } from "gltf-validator";

const paths = JSON.parse(readFileSync(0, "utf8"));
const reports = [];
for (const path of paths) {
  const report = await validateBytes(new Uint8Array(readFileSync(path)), { maxIssues: 100 });
  reports.push({ path, issues: report.issues, info: report.info });
}
writeFileSync(process.argv[2], JSON.stringify(reports));

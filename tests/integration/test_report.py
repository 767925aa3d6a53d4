"""report: the page is opened in headless Chromium, at a desk and on a phone, in the light and in the dark; what is drawn is
measured there, and the console must be clean. Screenshots stay in CW_SCREENSHOTS, when that is set."""
import json, os, pathlib, re, shutil, subprocess, unittest

from support import DatasetTest, run, tree, unpack, workloads

CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
DECODE = "gqa_paged_decode_h32_kv8_d128_ps1"

# Put behind the page: what is drawn, where, and whether anything went wrong.
MEASURE = """
<script>
const errors = [];
addEventListener('error', event => errors.push(String(event.message)));
addEventListener('load', () => {
  const visible = element => { const box = element.getBoundingClientRect(); return box.width > 0 && box.height > 0; };
  const inside = svg => {
    const frame = svg.getBoundingClientRect();
    return [...svg.querySelectorAll('circle, rect, text, path.line')].every(item => {
      const box = item.getBoundingClientRect();
      return box.left >= frame.left - 1 && box.right <= frame.right + 1 && box.top >= frame.top - 1 && box.bottom <= frame.bottom + 1;
    });
  };
  const luminance = colour => colour.match(/[\\d.]+/g).slice(0, 3).map(v => { v /= 255; return v <= .03928 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4; })
    .reduce((sum, v, i) => sum + v * [.2126, .7152, .0722][i], 0);
  const contrast = (a, b) => { const [x, y] = [luminance(a), luminance(b)].sort((p, q) => q - p); return (x + .05) / (y + .05); };
  const body = getComputedStyle(document.body);
  const result = {
    errors, overflow: document.documentElement.scrollWidth - innerWidth,
    svgs: document.querySelectorAll('svg').length,
    drawn: [...document.querySelectorAll('svg')].filter(visible).length,
    outside: [...document.querySelectorAll('svg')].filter(svg => !inside(svg)).map(svg => svg.getAttribute('aria-label')),
    circles: document.querySelectorAll('circle.known, circle.new').length, fresh: document.querySelectorAll('circle.new').length,
    sections: document.querySelectorAll('section.definition').length,
    dead: [...document.querySelectorAll('a')].filter(a => !document.getElementById(decodeURIComponent(a.hash.slice(1)))).length,
    resources: performance.getEntriesByType('resource').length,
    contrast: contrast(body.color, body.backgroundColor), small: contrast(getComputedStyle(document.querySelector('svg text')).fill, body.backgroundColor),
    background: luminance(body.backgroundColor), text: document.body.innerText.length};
  const place = document.createElement('pre'); place.id = 'measured'; place.textContent = JSON.stringify(result); document.body.append(place);
});
</script>"""


@unittest.skipUnless(CHROMIUM, "no Chromium")
class PageTest(DatasetTest):
    def report(self, *options, trace=None, out="report.html"):
        run("report", "--trace-dir", trace or self.trace, "--out", self.folder / out, *options, check=0)
        return self.folder / out

    def chromium(self, *options):
        done = subprocess.run([CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--enable-logging=stderr",
                               f"--user-data-dir={self.folder / 'profile'}", *options], capture_output=True, text=True, timeout=120)
        self.assertEqual([line for line in done.stderr.splitlines() if ":CONSOLE" in line], [], "the console is clean")
        return done.stdout

    def measure(self, page, width=1280, dark=False):
        instrumented = page.with_suffix(".measured.html")
        instrumented.write_text(page.read_text() + MEASURE)
        # Chromium's own switch for prefers-color-scheme.
        theme = ["--blink-settings=preferredColorScheme=" + ("0" if dark else "1")]
        dom = self.chromium(f"--window-size={width},1000", *theme, "--dump-dom", instrumented.as_uri())
        return json.loads(re.search(r'<pre id="measured">(.*?)</pre>', dom, re.S)[1].replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&"))

    def screenshot(self, page, name, width=1280):
        folder = pathlib.Path(os.environ.get("CW_SCREENSHOTS") or self.folder)
        folder.mkdir(parents=True, exist_ok=True)
        self.chromium(f"--window-size={width},2400", f"--screenshot={folder / name}", page.as_uri())
        self.assertGreater((folder / name).stat().st_size, 10_000)

    def check(self, measured, definitions):
        self.assertEqual(measured["errors"], [])
        self.assertLessEqual(measured["overflow"], 0, "nothing is wider than the window")
        self.assertEqual(measured["drawn"], measured["svgs"])
        self.assertEqual(measured["outside"], [], "no chart draws past its frame")
        self.assertEqual(measured["sections"], definitions)
        self.assertEqual(measured["dead"], 0)
        self.assertEqual(measured["resources"], 0, "nothing is fetched")
        self.assertGreater(measured["contrast"], 7)
        self.assertGreater(measured["small"], 4.5)

    def test_a_collection(self):
        """From the simulated engine: a run with a time line."""
        run("collect", "--engine", "simulated", "--trace-dir", self.trace, "--random-prompts", "--sweep", "1,4,16", "--output-tokens", "16",
            "--definition-name", DECODE, "gqa_ragged_prefill_causal_h32_kv8_d128", "rmsnorm_h4096", "-q", "--engine-args", "--max-total-tokens 16384",
            "--work-dir", self.folder / "work", check=0, env={**os.environ, "XDG_STATE_HOME": str(self.folder / "state")})
        page = self.report()
        wide, phone, dark = self.measure(page), self.measure(page, width=500), self.measure(page, dark=True)
        for measured in (wide, phone, dark): self.check(measured, 3)
        self.assertGreater(wide["background"], 0.8)
        self.assertLess(dark["background"], 0.1)
        self.assertGreaterEqual(wide["svgs"], 5 + 3 * 2, "a time line, and at least two charts a definition")
        for label in ("requests done", "calls captured", "batch_size against num_kv_indices", "sequences by length, from kv_indptr"):
            self.assertIn(f'aria-label="{label}"', page.read_text())
        self.assertIn("Simulated", page.read_text())
        self.screenshot(page, "report.png")
        self.screenshot(page, "report-phone.png", width=500)
        # The same numbers as JSON and as Markdown.
        summary = json.loads(run("report", "--trace-dir", self.trace, "--json", check=0).stdout)
        self.assertEqual({d["name"]: [w["uuid"] for w in d["workloads"]] for d in summary["definitions"]},
                         {n: [w["uuid"] for w in items] for n, items in workloads(self.trace).items()})
        decode = next(d for d in summary["definitions"] if d["name"] == DECODE)
        self.assertGreater(sum(w["seen"] for w in decode["workloads"]), 0)
        self.assertEqual(sum(w["stands_for"] for w in decode["workloads"]), decode["calls"])
        lengths = next(h for h in decode["lengths"] if h["input"] == "kv_indptr")
        batch = decode["var_axes"].index("batch_size")
        self.assertEqual(sum(lengths["powers_of_two"]) + lengths["empty"], sum(w["axes"][batch] * w["stands_for"] for w in decode["workloads"]))
        text = run("report", "--trace-dir", self.trace, "--format", "md", check=0).stdout
        for words in ("## Collection details", "| `" + DECODE, "Simulated"): self.assertIn(words, text)

    def test_a_thousand_workloads_and_60_definitions(self):
        source = json.loads((self.trace / f"definitions/gqa_paged/{DECODE}.json").read_text())
        shutil.rmtree(self.trace / "definitions")
        (self.trace / "definitions/gqa_paged").mkdir(parents=True); (self.trace / "workloads/gqa_paged").mkdir(parents=True)
        for d in range(60):
            name = f"gqa_paged_decode_h{d}_kv8_d128_ps1_with_a_name_as_long_as_they_get"
            (self.trace / f"definitions/gqa_paged/{name}.json").write_text(json.dumps({**source, "name": name}))
            lines = [{"definition": name, "solution": None, "evaluation": None, "workload": {"uuid": f"{d}-{i}", "inputs": {}, "axes":
                     {"batch_size": 1 << i % 9, "num_pages": 989669, "len_indptr": (1 << i % 9) + 1, "num_kv_indices": (i * 7919) % 100_000}}} for i in range(17)]
            (self.trace / f"workloads/gqa_paged/{name}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
        other = self.new_trace("other")
        shutil.rmtree(other)
        shutil.copytree(self.trace, other)
        path = next((other / "workloads").rglob("*.jsonl"))
        path.write_text("".join(path.read_text().splitlines(True)[:5]))
        page = self.report("--against", other)
        self.assertLess(page.stat().st_size, 3_000_000)
        for width in (1280, 500):
            measured = self.measure(page, width=width)
            self.check(measured, 60)
        self.assertEqual(measured["fresh"], 12)
        self.assertEqual(measured["circles"], 60 * 17)
        self.screenshot(page, "report-60.png")

    def test_what_others_wrote_is_shown_and_not_run(self):
        evil = '<script>throw 1</script><img src=x onerror="throw 2">'
        self.sanitize(unpack("sglang-0.5.17-llama-ps1", self.folder))
        collection = json.loads((self.trace / "collection.json").read_text())
        capture = collection["captures"][0]
        capture["run"] = {"version": evil, "model": "|`*" + evil, "command": ["python3", evil, "--host", "secret.example"], "prompts": None,
                          "traffic": {"sent": "x"}, "timeline": {"columns": ["s", 3, "calls"], "samples": [[0, 1], "x", [1, 2, 3], [2, 0, 4]]}}
        capture["defects"].append({"name": evil, "severity": evil, "count": 3, "function": evil, "example": evil, "detail": evil})
        (self.trace / "collection.json").write_text(json.dumps(collection))
        page = self.report()
        self.check(self.measure(page), len(workloads(self.trace)))
        self.assertNotIn("secret.example", page.read_text())
        text = run("report", "--trace-dir", self.trace, "--format", "md", check=0).stdout
        self.assertNotIn("<script", text)
        for line in text.splitlines():
            if line.startswith("| Model"): self.assertIn("\\|\\`\\*", line)

    def test_tensors_that_are_not_what_they_should_be(self):
        self.sanitize(unpack("sglang-0.5.17-llama-ps1", self.folder))
        for shape in ([4_000_000_000, 0], [0], [], [2, 1]):
            for blob in (self.trace / "blob").rglob("*.safetensors"):
                header = json.dumps({"kv_indptr": {"dtype": "I32", "shape": shape, "data_offsets": [0, 8 if shape == [2, 1] else 0]}}).encode()
                blob.write_bytes(len(header).to_bytes(8, "little") + header + (b"\0" * 8 if shape == [2, 1] else b""))
            self.report()

    def test_where_it_is_written(self):
        self.sanitize(unpack("sglang-0.5.17-llama-ps1", self.folder))
        (self.folder / "real.html").write_text("old")
        (self.folder / "link.html").symlink_to("real.html")
        self.report(out="link.html")
        self.assertTrue((self.folder / "link.html").is_symlink())
        self.assertIn("<h1>trace</h1>", (self.folder / "real.html").read_text())
        self.assertIn("<h1>trace</h1>", run("report", "--trace-dir", f"{self.trace}/", "--out", "/dev/stdout", check=0).stdout)
        self.assertIn("takes a file", run("report", "--trace-dir", self.trace, "--out", self.folder, check=1).stderr)
        self.assertIn("definitions/", run("report", "--trace-dir", self.trace, "--against", self.folder / "none", check=1).stderr)
        self.assertIn("no definition is called", run("report", "--trace-dir", self.trace, "--definition-name", "none", check=1).stderr)

    def test_nothing_to_report(self):
        run("report", "--trace-dir", self.trace, "--out", self.folder / "r.html", check=3)
        run("report", "--trace-dir", self.folder / "none", check=1)
        (self.trace / "collection.json").write_text("{}")
        self.assertIn("collection.json", run("report", "--trace-dir", self.trace, check=1).stderr)


if __name__ == "__main__":
    unittest.main()

"""The Hub's real client, huggingface_hub from PyPI, judges the test's Hub: it opens a pull request there and reads it back.
Then its requests are compared with those of submit for the same commit, and it reads what submit made."""
import importlib.util, json, os, pathlib, subprocess, sys, unittest
import unittest.mock

# Xet as the client comes with it; the test's Hub needs lz4 to read that.
HAS_XET = all(importlib.util.find_spec(name) for name in ("hf_xet", "lz4"))
if not HAS_XET: os.environ["HF_HUB_DISABLE_XET"] = "1"
os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
os.environ["HF_HUB_DISABLE_PROGRESS_BARS"] = "1"
import huggingface_hub
from huggingface_hub import CommitOperationAdd, HfApi

from hub_server import Hub
sys.path.insert(0, str(pathlib.Path(__file__).parent.parent))
import references
from test_submit import DECODE, LINES, REPO, SubmitTest as Base
from support import run, tree, workloads

CHANGING = ("preupload", "batch", "put", "put_part", "complete", "verify", "commit")


class HubClientTest(Base):
    def api(self, hub=None):
        return HfApi(endpoint=(hub or self.hub).url, token="hf_writer")

    def propose(self, api, files, title="t", description="d", **options):
        return api.create_commit(REPO, repo_type="dataset", commit_message=title, commit_description=description, create_pr=True,
                                 operations=[CommitOperationAdd(path, content) for path, content in files], num_threads=1, **options)

    def test_the_real_client_opens_a_pull_request(self):
        self.hub.multipart_from, self.hub.part_size = 5000, 1000
        api = self.api()
        self.assertEqual(api.whoami()["name"], "writer")
        content = {"a.txt": b"small", "sub/b.safetensors": os.urandom(3000), "sub/c.safetensors": os.urandom(9001)}
        commit = self.propose(api, content.items())
        self.assertEqual(commit.pr_num, 1)
        sent = {request["operation"] for request in self.hub.requests}
        self.assertIn("shard" if HAS_XET else "put_part", sent)
        self.assertEqual("shard" in sent, HAS_XET)
        self.assertEqual(commit.pr_revision, "refs/pr/1")
        for path, expected in content.items():
            got = api.hf_hub_download(REPO, path, repo_type="dataset", revision="refs/pr/1", cache_dir=self.folder / "hf")
            self.assertEqual(pathlib.Path(got).read_bytes(), expected)
        infos = {i.path: i for i in api.get_paths_info(REPO, list(content), repo_type="dataset", revision="refs/pr/1")}
        self.assertEqual(infos["sub/c.safetensors"].lfs.size, 9001)
        self.assertEqual({f.path for f in api.list_repo_tree(REPO, repo_type="dataset", revision="refs/pr/1", recursive=True)},
                         {*content, "README.md", ".gitattributes"})
        self.assertEqual([d.title for d in api.get_repo_discussions(REPO, repo_type="dataset")], ["t"])
        # Again: nothing changes, so nothing is committed; and nothing of it on main.
        self.assertIsNone(api.create_commit(REPO, repo_type="dataset", commit_message="t", revision="refs/pr/1", operations=[
            CommitOperationAdd(path, data) for path, data in content.items()]).pr_url)
        self.assertEqual(len(api.list_repo_files(REPO, repo_type="dataset")), 2)

    def test_discussions_and_cards(self):
        api = self.api()
        made = api.create_pull_request(REPO, title="an empty one", repo_type="dataset", token="hf_writer")
        self.assertEqual((made.num, made.is_pull_request), (1, True))
        self.assertEqual([d.title for d in api.get_repo_discussions(REPO, repo_type="dataset")], ["an empty one"])
        card = huggingface_hub.DatasetCard("---\nlicense: mit\n---\n# traces\n")
        if not huggingface_hub.__version__.startswith("1."):  # before, it asks the real Hub whatever it is told
            with unittest.mock.patch("huggingface_hub.constants.ENDPOINT", self.hub.url): card.validate(repo_type="dataset")
        with self.assertRaises(huggingface_hub.errors.RevisionNotFoundError) as raised:
            api.dataset_info(REPO, revision="no-such")
        self.assertIn("Invalid rev id", str(raised.exception))

    @unittest.mock.patch("huggingface_hub.constants.HF_HUB_DISABLE_XET", True)
    def test_the_same_requests(self):
        for multipart in (False, True):
            with self.subTest(multipart=multipart):
                hubs = [Hub(self.folder / f"hub{multipart}{i}") for i in range(2)]
                for hub in hubs:
                    self.addCleanup(hub.close)
                    if multipart: hub.multipart_from, hub.part_size = 200, 64
                    hub.repo(REPO).add({"README.md": b"# traces\n"})
                ours, theirs = hubs
                self.hub = ours
                result = self.submit_json()
                folder = self.folder / f"check{multipart}"
                self.repo = ours.repo(REPO)
                merged = self.check_out("refs/pr/1", folder.name)
                self.propose(self.api(theirs), [(f["path"], merged / f["path"]) for f in result["files"]], result["title"],
                             result["description"], parent_commit=theirs.repo(REPO).head("main"))
                self.assertEqual(self.normal(ours), self.normal(theirs))
                self.assertEqual(ours.repo(REPO).head("refs/pr/1"), theirs.repo(REPO).head("refs/pr/1"), "the very commit")

    @unittest.skipUnless(HAS_XET, "no hf_xet and lz4")
    def test_the_same_commit_by_xet(self):
        """What the client sends to Xet and submit to LFS is one and the same pull request."""
        theirs = Hub(self.folder / "theirs")
        self.addCleanup(theirs.close)
        theirs.repo(REPO).add({"README.md": b"# traces\n", ".gitattributes": b"*.safetensors filter=lfs diff=lfs merge=lfs -text\n"})
        result = self.submit_json()
        merged = self.check_out("refs/pr/1", "merged")
        self.propose(self.api(theirs), [(f["path"], merged / f["path"]) for f in result["files"]], result["title"], result["description"],
                     parent_commit=theirs.repo(REPO).head("main"))
        self.assertTrue({"xet_token", "xorb", "shard"} <= {request["operation"] for request in theirs.requests})
        self.assertFalse({"batch", "put"} & {request["operation"] for request in theirs.requests})
        self.assertEqual(theirs.repo(REPO).head("refs/pr/1"), self.repo.head("refs/pr/1"))
        self.assertEqual(theirs.foreign_tokens, [])

    def normal(self, hub):
        """What the requests that change something say, whatever their order and the server's address."""
        result = []
        for request in hub.requests:
            if request["operation"] not in CHANGING: continue
            body = request["body"]
            if request["operation"] not in ("put", "put_part"):
                body = [json.loads(line) for line in body.decode().splitlines()]
                if request["operation"] == "batch": body[0]["objects"].sort(key=lambda item: item["oid"])
                body = json.dumps(body, sort_keys=True)
            kind = (request["type"] or "").split(";")[0] if request["operation"] == "commit" else ""
            # Signed URLs get no token, the rest does; the completion of a multipart upload may go without.
            token = request["has_token"] if request["operation"] != "complete" else None
            result.append((request["operation"], request["method"], request["path"], sorted(request["query"].items()), kind, token, body))
        return sorted(result, key=repr)

    def test_it_reads_what_submit_made(self):
        self.submit_json()
        folder = huggingface_hub.snapshot_download(REPO, repo_type="dataset", revision="refs/pr/1", local_dir=self.folder / "snapshot",
                                                   endpoint=self.hub.url, token="hf_writer")
        run("validate", "--trace-dir", folder, check=0)
        self.assertEqual(workloads(folder), workloads(self.trace))
        self.assertEqual(tree(pathlib.Path(folder) / "blob"), tree(self.trace / "blob"))

    def test_from_a_gpu_to_a_pull_request(self):
        """What SGLang on an H100 was collected from, merged, verified and replayed there (docs/runs/gpu-verify.md): nothing is
        lifted here."""
        trace = self.folder / "evidence"
        trace.mkdir()
        archive = pathlib.Path(__file__).parent.parent.parent / "docs/runs/gpu-verify/merged.tar.xz"
        subprocess.run(["tar", "xJf", archive, "-C", trace], check=True)
        result = json.loads(run("submit", "--trace-dir", trace, "--json", check=0, env=self.environment()).stdout)
        self.assertEqual(result["new"], 625)
        for words in ("- [x] `collect-workloads validate`", "- [x] flashinfer-bench's loader generates every input: 625 of 625",
                      "- [x] Run once through the definition's reference: 625 of 625 workloads that have one, on NVIDIA H100",
                      "- [x] `flashinfer replay`: 146 of 146 recorded calls pass, 54 of them with outputs"):
            self.assertIn(words, result["description"])
        # One of the five captures is of dumps: which engine made them is not recorded.
        self.assertIn("- [ ] Which engine", result["description"])
        part = json.loads(run("submit", "--trace-dir", trace, "--dry-run", "--json", "--op-type", "mla_paged", check=0, env=self.environment()).stdout)
        self.assertIn("- [x] Collected from a real engine", part["description"])
        folder = huggingface_hub.snapshot_download(REPO, repo_type="dataset", revision="refs/pr/1", local_dir=self.folder / "snapshot",
                                                   endpoint=self.hub.url, token="hf_writer")
        run("validate", "--trace-dir", folder, check=0)
        self.assertEqual(workloads(folder), workloads(trace))
        self.assertEqual(tree(pathlib.Path(folder) / "blob"), tree(trace / "blob"))

    @unittest.skipUnless(importlib.util.find_spec("torch"), "verify needs PyTorch")
    def test_from_an_engine_to_a_pull_request(self):
        """The whole way: two engines' collections, merged, validated, reported, verified and offered. The guard against
        simulated engines is lifted for this test only."""
        parts = []
        for i, tp in enumerate(("1", "2")):
            trace = self.new_trace(f"host{i}")
            references.fill(trace)
            definitions = [DECODE, "rmsnorm_h4096"] if tp == "1" else ["rmsnorm_h4096", "fused_add_rmsnorm_h4096"]
            run("collect", "--engine", "simulated", "--trace-dir", trace, "--random-prompts", "--sweep", "1,4,8", "--output-tokens", "8", "--tp", tp,
                "--definition-name", *definitions, "-q", "--engine-args", "--max-total-tokens 8192", "--work-dir", self.folder / f"work{i}",
                check=0, env=self.environment())
            parts.append(trace)
        merged = self.folder / "merged"
        run("merge", *parts, "--out", merged, check=0)
        run("validate", "--trace-dir", merged, check=0)
        arguments = ["submit", "--trace-dir", merged]
        self.assertIn("simulated", run(*arguments, check=1, env=self.environment()).stderr)
        lifted = self.environment(COLLECT_WORKLOADS_TEST_SUBMIT_SIMULATED="1")
        self.assertIn("collect-workloads verify", run(*arguments, check=1, env=lifted).stderr)
        run("verify", "--trace-dir", merged, "--python", sys.executable, check=0, env=self.environment(CUDA_VISIBLE_DEVICES=""))
        run("report", "--trace-dir", merged, "--out", self.folder / "report.html", check=0)
        self.assertIn("Verified on CPU", (self.folder / "report.html").read_text())
        result = json.loads(run(*arguments, "--json", check=0, env=lifted).stdout)
        for words in ("- [x] `collect-workloads validate`", "- [x] flashinfer-bench's loader", "- [x] Run once through", "- [ ] Collected from a real",
                      "- [ ] `flashinfer replay`"):
            self.assertIn(words, result["description"])
        # The real client sees a pull request, takes it down, and the dataset is what was merged.
        api = self.api()
        discussion, = api.get_repo_discussions(REPO, repo_type="dataset")
        self.assertEqual((discussion.num, discussion.title, discussion.is_pull_request), (1, result["title"], True))
        folder = huggingface_hub.snapshot_download(REPO, repo_type="dataset", revision="refs/pr/1", local_dir=self.folder / "snapshot",
                                                   endpoint=self.hub.url, token="hf_writer")
        run("validate", "--trace-dir", folder, check=0)
        self.assertEqual(workloads(folder), workloads(merged))
        self.assertEqual(tree(pathlib.Path(folder) / "blob"), tree(merged / "blob"))
        # Changed afterwards, it is unverified again.
        lines = next((merged / "workloads/rmsnorm").glob("*.jsonl"))
        lines.write_text("".join(lines.read_text().splitlines(True)[:-1]) + json.dumps({"definition": lines.stem, "solution": None, "evaluation": None,
                         "workload": {"uuid": "another", "axes": {"batch_size": 12345}, "inputs": {n: {"type": "random"} for n in
                                      (("hidden_states", "weight") if lines.stem.startswith("rms") else ("hidden_states", "residual", "weight"))}}}) + "\n")
        self.assertIn("not verified as they are now", " ".join(run(*arguments, check=1, env=lifted).stderr.split()))


# Only what is here, not the tests of the base again.
for name in [name for name in dir(Base) if name.startswith("test_")]: setattr(HubClientTest, name, None)
del Base


if __name__ == "__main__":
    unittest.main()

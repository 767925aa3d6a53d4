"""kill -9 at any moment, Ctrl-C, a full disk: the dataset is always valid and the next run completes it."""
import os, random, shutil, signal, subprocess, time, unittest

from support import BINARY, SANITIZED, DatasetTest, run, tree, unpack


class Interruption(DatasetTest):
    def setUp(self):
        super().setUp()
        self.dumps = unpack("cpu-small", self.folder)
        self.command = [BINARY, "sanitize", "--dumps", str(self.dumps), "--trace-dir"]
        done = self.new_trace("done")
        begin = time.monotonic()
        subprocess.run([*self.command, done], check=True, stdout=subprocess.DEVNULL)
        self.duration = time.monotonic() - begin
        self.expected = tree(done)

    def test_kill_at_random_moments(self):
        chance = random.Random(7)
        killed = unfinished = 0
        attempts = 18 if SANITIZED else 60
        for attempt in range(attempts):
            trace = self.new_trace(f"trace{attempt}")
            process = subprocess.Popen([*self.command, trace], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            time.sleep(chance.random() * 1.5 * self.duration)
            process.kill()
            killed += process.wait() == -signal.SIGKILL
            run("validate", "--trace-dir", trace, check=0)
            unfinished += tree(trace) != self.expected
            run("sanitize", "--dumps", self.dumps, "--trace-dir", trace, check=0)
            self.assertEqual(tree(trace), self.expected)
            shutil.rmtree(trace)
        print(f"{killed} of {attempts} were killed, {unfinished} before they had finished")
        self.assertGreaterEqual(unfinished, attempts // 6)

    def test_control_c(self):
        process = subprocess.Popen([*self.command, self.trace], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(self.duration / 2)
        process.send_signal(signal.SIGINT)
        process.wait()
        run("validate", "--trace-dir", self.trace, check=0)
        run("sanitize", "--dumps", self.dumps, "--trace-dir", self.trace, check=0)
        self.assertEqual(tree(self.trace), self.expected)

    def test_a_full_disk(self):
        small = self.folder / "small"
        small.mkdir()
        # In a mount namespace of its own, so that nothing is left mounted; root in a container may not.
        script = f"""set -e
            mount -t tmpfs -o size=20m none {small}
            cp -r {self.trace}/definitions {small}/
            used=$(df -k --output=used {small} | tail -1)
            mount -o remount,size=$((used + 40))k {small}
            {' '.join(self.command)} {small} && exit 90
            [ $? = 1 ] || exit 91
            {BINARY} validate --trace-dir {small} || exit 92
            mount -o remount,size=20m {small}
            {' '.join(self.command)} {small} || exit 93
            cp -r {small}/. {self.folder}/copied"""
        result = subprocess.run(["unshare", "--mount", "--map-root-user", "bash", "-c", script], capture_output=True, text=True)
        if "Operation not permitted" in result.stderr: self.skipTest("no mounts here: " + result.stderr)
        self.assertEqual(result.returncode, 0, result.stdout + result.stderr)
        self.assertIn("No space left on device", result.stderr)
        self.assertIn("Free some space", result.stderr)
        self.assertEqual(tree(self.folder / "copied"), self.expected)

    def test_two_at_once(self):
        first = subprocess.Popen([*self.command, self.trace], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        second = subprocess.run([*self.command, self.trace], capture_output=True, text=True)
        self.assertEqual(first.wait() == 0 or second.returncode == 0, True)
        if second.returncode == 1: self.assertIn("another collect-workloads", second.stderr)
        run("sanitize", "--dumps", self.dumps, "--trace-dir", self.trace, check=0)
        self.assertEqual(tree(self.trace), self.expected)


if __name__ == "__main__": unittest.main()

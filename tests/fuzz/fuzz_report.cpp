// collection.json, verification.json and a workloads file as others may have written them, into the
// page and the Markdown.
#include <cstdlib>

#include "base/file.h"
#include "base/output.h"
#include "report/markdown.h"
#include "report/page.h"

namespace {

constexpr std::string_view definition =
    R"({"name": "d", "op_type": "gqa_paged", "reference": "def run(): pass", "tags": ["model:m"],
  "axes": {"batch_size": {"type": "var"}, "len_indptr": {"type": "var"}, "n": {"type": "var"}, "k": {"type": "const", "value": 2}},
  "inputs": {"q": {"shape": ["batch_size", "k"], "dtype": "float32"}, "kv_indptr": {"shape": ["len_indptr"], "dtype": "int32"},
             "sm_scale": {"shape": null, "dtype": "float32"}},
  "outputs": {"o": {"shape": ["batch_size", "k"], "dtype": "float32"}}})";
constexpr std::string_view line =
    R"({"definition": "d", "solution": null, "evaluation": null, "workload": {"uuid": "u",
  "axes": {"batch_size": 1, "len_indptr": 2, "n": 3}, "inputs": {}}})";

std::filesystem::path folder() {
  static const auto made = [] {
    ::setenv("TMPDIR", "/dev/shm", 0);
    auto folder = cw::TemporaryDirectory::create();
    if (!folder) std::abort();
    (void)cw::make_directories(folder->path() / "definitions/gqa_paged");
    (void)cw::make_directories(folder->path() / "workloads/gqa_paged");
    (void)cw::write_atomically(folder->path() / "definitions/gqa_paged/d.json", definition,
                               cw::Durability::process);
    return std::move(*folder);
  }();
  return made.path();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const char* data, std::size_t size) {
  if (size == 0) return 0;
  static const std::string one_line = [] {
    std::string text(line);
    for (char& c : text) c = c == '\n' ? ' ' : c;
    return text + "\n";
  }();
  const std::filesystem::path root = folder();
  const std::string_view content(data + 1, size - 1);
  const int which = *data % 3;
  std::error_code ignored;
  std::filesystem::remove(root / "collection.json", ignored);
  std::filesystem::remove(root / "verification.json", ignored);
  (void)cw::write_atomically(root / "workloads/gqa_paged/d.jsonl", which == 2 ? content : one_line,
                             cw::Durability::process);
  if (which < 2)
    (void)cw::write_atomically(root / (which == 0 ? "collection.json" : "verification.json"),
                               content, cw::Durability::process);
  const auto dataset = cw::Dataset::open(root);
  if (!dataset) std::abort();
  const auto summary = cw::summarize(*dataset, {});
  if (!summary) return 0;
  const std::string page = cw::to_html(*summary, "t");
  if (page.find("<script") != std::string::npos) std::abort();
  if (cw::to_markdown(*summary).find("<script") != std::string::npos) std::abort();
  (void)cw::dump(cw::to_json(*summary));
  return 0;
}

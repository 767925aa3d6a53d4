#include "dataset/validation.h"

#include <algorithm>
#include <array>
#include <set>
#include <unordered_set>

#include <tbb/parallel_for.h>

#include "base/hash.h"
#include "base/lines.h"
#include "dataset/collection_file.h"
#include "dataset/publication.h"
#include "dataset/verification_file.h"
#include "tensor/safetensors.h"

namespace cw {
namespace {

namespace fs = std::filesystem;
using Severity = Finding::Severity;

// flashinfer-bench 0.1.2, flashinfer_bench/data/definition.py: DType.
constexpr std::array loadable{DType::float32,       DType::float16,     DType::bfloat16,
                              DType::float8_e4m3fn, DType::float8_e5m2, DType::float4_e2m1,
                              DType::int64,         DType::int32,       DType::int16,
                              DType::int8,          DType::boolean};

bool is_loadable(DType dtype) {
  return std::ranges::find(loadable, dtype) != loadable.end();
}

std::vector<std::string_view> loadable_names() {
  std::vector<std::string_view> names;
  for (const DType dtype : loadable) names.push_back(trace_name(dtype));
  return names;
}

// An input of a stored workload while it is checked.
struct CheckedInput {
  std::optional<Operand> scalar;
  std::optional<TensorOperand> tensor;  ///< shape from axes; values only if stored
};

class StoredNameResolver final : public NameResolver {
 public:
  StoredNameResolver(const Definition& definition, const std::vector<std::int64_t>& axes,
                     const std::vector<CheckedInput>& inputs)
      : definition_(definition), axes_(axes), inputs_(inputs) {}

  Result<Operand> value_of(std::string_view name) const override {
    for (std::size_t i = 0; i < definition_.axes.size(); ++i)
      if (definition_.axes[i].name == name) return Operand(axes_[i]);
    for (std::size_t i = 0; i < definition_.inputs.size(); ++i) {
      if (definition_.inputs[i].name != name) continue;
      if (inputs_[i].scalar) return *inputs_[i].scalar;
      if (inputs_[i].tensor) return *inputs_[i].tensor;
      return Operand();
    }
    return fail("unknown_name", "unknown name {}", name);
  }

 private:
  const Definition& definition_;
  const std::vector<std::int64_t>& axes_;
  const std::vector<CheckedInput>& inputs_;
};

// Checks everything that one line says by itself. Several threads check lines.
class LineCheck {
 public:
  LineCheck(const Dataset& dataset, const IndexChecksOf& checks_of, const fs::path& path,
            std::size_t line)
      : dataset_(dataset),
        checks_of_(checks_of),
        where_(fmt::format("{}:{}", path.string(), line)),
        line_(line) {}

  void run(const fs::path& path, std::string_view line) {
    if (line.starts_with(byte_order_mark))
      return error("workload_invalid",
                   "begins with a byte order mark, which flashinfer-bench does not read");

    const auto parsed = parse_json(line);
    if (!parsed && parse_json(without_python_numbers(line)))
      return error("workload_invalid",
                   "NaN and Infinity are not JSON: flashinfer-bench writes them back as null, and "
                   "cannot read that");
    if (!parsed || !parsed->is_object()) return error("workload_invalid", "not a JSON object");

    // The shape of a line.
    const Json& json = *parsed;
    const auto is = [&json](const char* field, bool (Json::*test)() const) {
      return json.contains(field) && (json.at(field).*test)();
    };
    if (!is("definition", &Json::is_string) || !is("workload", &Json::is_object))
      return error("workload_invalid", "expected a string definition and an object workload");
    for (const char* field : {"solution", "evaluation"})
      if (json.contains(field) && !json.at(field).is_null())
        error("workload_invalid", fmt::format("{}: expected null in a workloads file", field));

    note_references(json.at("workload"));

    // Its definition, and whether the line is in that definition's file.
    const std::string name = json.at("definition").get<std::string>();
    const Definition* definition = dataset_.find(name);
    if (definition == nullptr)
      return error("definition_unknown", fmt::format("no usable definition is called {}", name));
    if (const fs::path own = Dataset::workloads_file(dataset_.root, *definition); path != own)
      error("workload_misplaced", fmt::format("belongs to {}", own.string()));
    workload(*definition, json.at("workload"));
  }

  const std::string& where() const { return where_; }
  std::size_t line() const { return line_; }
  std::vector<Finding>& findings() { return findings_; }
  /// Empty when the line has none.
  const std::string& id() const { return id_; }
  /// Hashes of the blob paths that it names.
  const std::vector<Hash128>& references() const { return references_; }

 private:
  void error(std::string code, std::string message) {
    add(Severity::error, std::move(code), std::move(message));
  }
  void warning(std::string code, std::string message) {
    add(Severity::warning, std::move(code), std::move(message));
  }
  // Errors are always reported: the first one decides.
  void add(Severity severity, std::string code, std::string message) {
    constexpr std::size_t max_findings = 64;
    if (findings_.size() < max_findings || (severity == Severity::error && !has_error_))
      findings_.push_back({severity, std::move(code), where_, std::move(message), line_});
    has_error_ = has_error_ || severity == Severity::error;
  }

  // A blob is not an orphan just because its workload has faults.
  void note_references(const Json& workload) {
    for (const std::string& path : blob_paths(workload)) references_.push_back(xxh3(path));
  }

  void workload(const Definition& definition, const Json& json) {
    if (!json.contains("uuid") || !json.at("uuid").is_string() ||
        json.at("uuid").get_ref<const std::string&>().empty())
      return error("workload_invalid", "uuid: expected a non-empty string");
    id_ = json.at("uuid").get<std::string>();
    if (id_.find('\0') != std::string::npos)
      error("workload_invalid", "uuid: contains a zero byte");
    if (!json.contains("axes") || !json.at("axes").is_object())
      return error("workload_invalid", "axes: expected an object");
    if (!json.contains("inputs") || !json.at("inputs").is_object())
      return error("workload_invalid", "inputs: expected an object");

    std::vector<std::int64_t> axes;
    for (const Axis& axis : definition.axes) {
      if (axis.constant) {
        axes.push_back(*axis.constant);
        continue;
      }
      const auto value = json.at("axes").find(axis.name);
      if (value == json.at("axes").end() || !value->is_number_integer() ||
          value->get<double>() < 0 || value->get<double>() > 9e18)
        return error("axis_invalid",
                     fmt::format("axis {}: expected an integer of 0 or more", axis.name));
      axes.push_back(value->get<std::int64_t>());
    }
    for (const auto& [name, value] : json.at("axes").items()) {
      const Axis* axis = definition.axis(name);
      if (axis == nullptr || axis->constant)
        warning("axis_unknown", fmt::format("axis {} is not a var axis of the definition", name));
      if (!value.is_number_integer())
        error("axis_invalid", fmt::format("axis {}: expected an integer", name));
    }
    for (const auto& [name, value] : json.at("inputs").items())
      if (definition.input(name) == nullptr)
        error("input_unknown", fmt::format("input {} is not in the definition", name));

    std::vector<CheckedInput> inputs(definition.inputs.size());
    bool complete = true;
    for (std::size_t i = 0; i < definition.inputs.size(); ++i) {
      auto checked = input(definition, axes, i, json.at("inputs"));
      if (checked)
        inputs[i] = std::move(*checked);
      else
        complete = false, error(checked.error().code, checked.error().message);
    }
    if (complete) relations(definition, axes, inputs);
  }

  Result<CheckedInput> input(const Definition& definition, const std::vector<std::int64_t>& axes,
                             std::size_t index, const Json& inputs) {
    const TensorSpec& spec = definition.inputs[index];

    CheckedInput checked;
    Shape shape;
    for (const std::size_t axis : spec.axes) shape.push_back(axes[axis]);
    const auto missing = [name = spec.name]() -> Result<std::shared_ptr<const DenseTensor>> {
      return fail("not_stored", "the values of input {} are not stored", name);
    };
    if (!spec.is_scalar) checked.tensor = TensorOperand{spec.dtype, shape, missing};

    const auto found = inputs.find(spec.name);
    if (found == inputs.end())
      return fail("input_missing", "{}input {} is missing; flashinfer-bench requires every input",
                  spec.optional ? "optional " : "", spec.name);
    const std::string type = string_member(*found, "type");

    // Values that flashinfer-bench generates.
    if (type == "random") {
      if (spec.dtype == DType::float4_e2m1)
        return fail("random_float4",
                    "input {} is random float4, which flashinfer-bench cannot generate", spec.name);
      if (spec.is_scalar)
        warning("random_scalar", fmt::format("scalar {} is random", spec.name));
      else if (is_integer(spec.dtype))
        warning(
            "random_index",
            fmt::format("integer tensor {} is random: flashinfer-bench fills it with -1024 to 1024",
                        spec.name));
      return checked;
    }

    // Values in the line.
    if (type == "scalar") {
      if (!found->contains("value")) return fail("scalar_invalid", "input {}: no value", spec.name);
      return scalar(spec, found->at("value"));
    }

    // Values in a blob.
    if (type != "safetensors")
      return fail("input_invalid", "input {}: type is none of random, scalar and safetensors",
                  spec.name);
    if (spec.is_scalar)
      return fail("input_invalid", "input {} is a scalar in the definition, safetensors here",
                  spec.name);
    CW_TRY(checked.tensor->values,
           stored(spec, shape, string_member(*found, "path"), string_member(*found, "tensor_key")));
    return checked;
  }

  static Result<CheckedInput> scalar(const TensorSpec& spec, const Json& value) {
    if (!spec.is_scalar)
      return fail("input_invalid", "input {} is a tensor in the definition, a scalar here",
                  spec.name);
    if (!value.is_number() && !value.is_boolean())
      return fail("scalar_invalid", "input {}: {} is not a number", spec.name, brief(value));
    if (is_integer(spec.dtype) && !value.is_number_integer())
      return fail("scalar_invalid", "input {}: {} is no {}", spec.name, brief(value),
                  trace_name(spec.dtype));
    CheckedInput checked;
    if (value.is_boolean())
      checked.scalar = Operand(value.get<bool>());
    else if (value.is_number_integer())
      checked.scalar = Operand(value.get<std::int64_t>());
    else
      checked.scalar = Operand(value.get<double>());
    return checked;
  }

  using Values = std::function<Result<std::shared_ptr<const DenseTensor>>()>;

  Result<Values> stored(const TensorSpec& spec, const Shape& shape, const std::string& path,
                        const std::string& key) {
    auto known = headers_.find(path);
    if (known == headers_.end()) {
      CW_TRY(const fs::path resolved, resolve_blob(dataset_.root, path));
      known = headers_.emplace(path, Header{resolved, read_safetensors_header(resolved.string())})
                  .first;
    }

    const auto& [file, entries] = known->second;
    if (!entries) {
      const Error& error = entries.error();
      if (error.code == "safetensors_malformed" && is_lfs_pointer(file))
        return fail("blob_not_fetched", "input {}: {} is a git-lfs pointer; run git lfs pull",
                    spec.name, path);
      return fail(error.code == "not_found" ? "blob_missing" : error.code, "input {}: {}",
                  spec.name, error.message);
    }

    // The tensor must match the definition and the axes.
    const auto& list = *entries;
    const auto entry =
        std::ranges::find_if(list, [&key](const SafetensorsEntry& e) { return e.name == key; });
    if (entry == list.end())
      return fail("tensor_missing", "input {}: {} has no tensor '{}'", spec.name, path, key);
    if (entry->shape != shape)
      return fail("blob_shape", "input {}: {} has shape {}, the axes say {}", spec.name, path,
                  to_string(entry->shape), to_string(shape));
    if (entry->dtype != spec.dtype)
      return fail("blob_dtype", "input {}: {} has {}, the definition says {}", spec.name, path,
                  trace_name(entry->dtype), trace_name(spec.dtype));
    return Values(
        [path_of_file = file, entry = *entry] { return read_blob_entry(path_of_file, entry); });
  }

  void relations(const Definition& definition, const std::vector<std::int64_t>& axes,
                 const std::vector<CheckedInput>& inputs) {
    const StoredNameResolver names(definition, axes, inputs);
    for (const Expression& constraint : definition.constraints) {
      const auto holds = constraint.evaluate(names);
      if (!holds && holds.error().code == "not_stored")
        warning("constraint_unknown",
                fmt::format("{}: {}", constraint.text(), holds.error().message));
      else if (!holds)
        error("constraint", fmt::format("{}: {}", constraint.text(), holds.error().message));
      else if (!truth(*holds))
        error("constraint", fmt::format("{} does not hold", constraint.text()));
    }
    // As far as they concern the definition's own inputs, and what is stored.
    const auto checks = checks_of_(definition);
    if (!checks) return;
    for (const IndexCheck& check : *checks)
      if (const auto holds = evaluate(check, definition, names);
          !holds && holds.error().code == "structure")
        error(holds.error().code, holds.error().message);
  }

  const Dataset& dataset_;
  const IndexChecksOf& checks_of_;
  const std::string where_;
  const std::size_t line_;
  std::vector<Finding> findings_;
  bool has_error_ = false;
  std::string id_;
  std::vector<Hash128> references_;
  struct Header {
    fs::path file;
    Result<std::vector<SafetensorsEntry>> entries;
  };
  std::map<std::string, Header> headers_;  ///< of its blobs, by path
};

class Validator {
 public:
  Validator(const fs::path& root, const IndexChecksOf& checks_of)
      : root_(root), checks_of_(checks_of) {}

  Result<ValidationReport> run() {
    CW_TRY(dataset_, Dataset::open(root_));

    report_.definitions = dataset_.definitions.size();
    for (const BadDefinition& bad : dataset_.bad_definitions)
      add(Severity::error, bad.error.code, bad.path, bad.error.message);

    // Definitions: place, dtypes, and whether calls can be bound to them.
    for (const auto& [name, path] : dataset_.definition_paths) {
      const Definition& definition = *dataset_.find(name);
      const fs::path expected = fs::path("definitions") / definition.op_type / (name + ".json");
      if (path != expected && path != fs::path("definitions") / expected.filename())  // flat
        add(Severity::warning, "definition_misplaced", path.string(),
            fmt::format("belongs to {}", expected.string()));
      for (const auto* specs : {&definition.inputs, &definition.outputs})
        for (const TensorSpec& spec : *specs)
          if (!is_loadable(spec.dtype))
            add(Severity::error, "dtype_unsupported", path.string(),
                fmt::format("{} is {}, which flashinfer-bench does not know; it reads {}",
                            spec.name, trace_name(spec.dtype), fmt::join(loadable_names(), ", ")));

      if (const auto checks = checks_of_(definition); !checks)
        add(Severity::warning, "no_binding", path.string(),
            fmt::format("{}; no call can give it workloads, and index tensors are not checked",
                        checks.error().message));
    }

    // Workloads, and everything else that is there.
    links();
    folders();
    for (const fs::path& path : files("workloads", ".jsonl")) workloads_file(path);
    orphans();
    files_beside();
    count_the_rest();

    std::ranges::stable_sort(report_.findings, [](const Finding& a, const Finding& b) {
      return std::pair(file_of(a), a.line) < std::pair(file_of(b), b.line);
    });
    return std::move(report_);
  }

 private:
  void add(Severity severity, std::string code, std::string where, std::string message,
           std::size_t line = 0) {
    add({severity, std::move(code), std::move(where), std::move(message), line});
  }

  // A file can have as many faults as it has bytes.
  void add(Finding finding) {
    constexpr std::size_t max_alike = 20;
    const std::string place = finding.line > 0 ? std::string(file_of(finding))
                                               : fs::path(finding.where).parent_path().string();
    std::vector<std::size_t>& alike = alike_[{place, finding.code}];
    if (alike.size() < max_alike) {
      alike.push_back(report_.findings.size());
      report_.findings.push_back(std::move(finding));
    } else {
      ++more_[alike.back()];
    }
  }

  void count_the_rest() {
    for (const auto& [place, count] : more_)
      report_.findings[place].message += fmt::format("; and {} more like it", count);
  }

  static std::string_view file_of(const Finding& finding) {
    return std::string_view(finding.where)
        .substr(0, finding.line > 0 ? finding.where.rfind(':') : std::string::npos);
  }

  // The folders where workloads are read and written.
  void folders() {
    std::set<fs::path> expected{"workloads", "blob", "blob/workloads"};
    for (const Definition& definition : dataset_.definitions) {
      const fs::path path = Dataset::workloads_file(root_, definition);
      expected.insert(path.parent_path());
      workloads_paths_.insert(path);
    }
    std::error_code error;
    for (const fs::path& folder : expected)
      if (fs::exists(fs::symlink_status(root_ / folder, error)) &&
          !fs::is_directory(root_ / folder, error))
        add(Severity::error, "not_a_folder", folder.string(), "is not a folder; move it away");
  }

  // Never write through a link that leads out of the dataset, and do not look behind a link to a
  // folder.
  void links() {
    for (const char* folder : {"definitions", "workloads", "blob"}) {
      std::error_code error;
      if (fs::exists(root_ / folder, error) && !is_inside(root_, root_ / folder))
        add(Severity::error, "path_escapes", folder, "leads out of the dataset through a link");
      for (fs::recursive_directory_iterator it(root_ / folder, error), end; !error && it != end;
           it.increment(error)) {
        const std::string path = it->path().lexically_relative(root_).string();
        std::error_code ignored;
        if (is_folder_link(*it))
          add(Severity::error, "folder_linked", path,
              "is a link to a folder, which is not followed; move the folder "
              "here");
        if (path.starts_with("workloads/") && path.ends_with(".jsonl") && !is_litter(path) &&
            it->is_directory(ignored))
          add(Severity::error, "not_a_file", path, "is a folder; move it away");
      }
    }
  }

  std::vector<fs::path> files(const fs::path& folder, std::string_view extension) const {
    std::vector<fs::path> paths;
    std::error_code error;
    for (fs::recursive_directory_iterator it(root_ / folder, error), end; !error && it != end;
         it.increment(error)) {
      std::error_code ignored;
      if (it->path().extension() == extension && !is_litter(it->path()) &&
          !it->is_directory(ignored))
        paths.push_back(it->path().lexically_relative(root_));
    }
    std::ranges::sort(paths);
    return paths;
  }

  void workloads_file(const fs::path& path) {
    if (!workloads_paths_.contains(path))
      add(Severity::error, "workloads_misplaced", path.string(), dataset_.place_of(path));

    auto lines = LineReader::open(root_ / path);
    if (!lines)
      return add(Severity::error, lines.error().code, path.string(), lines.error().message);
    std::vector<std::string> texts;
    std::vector<LineCheck> checks;

    // Lines are checked in parallel, batch by batch, and reported in order.
    for (bool is_more = true; is_more;) {
      texts.clear();
      checks.clear();
      std::size_t bytes = 0;

      while (texts.size() < batch_lines && bytes < batch_bytes) {
        const auto line = lines->next();
        is_more = line && *line;
        if (!line) add(Severity::error, line.error().code, path.string(), line.error().message);
        if (!is_more) break;
        texts.emplace_back((*line)->text);
        bytes += texts.back().size();
        checks.emplace_back(dataset_, checks_of_, path, (*line)->number);
      }

      tbb::parallel_for(std::size_t{0}, checks.size(),
                        [&](std::size_t i) { checks[i].run(path, texts[i]); });
      for (LineCheck& check : checks) take(check);
    }
  }

  // In line order.
  void take(LineCheck& check) {
    ++report_.workloads;
    referenced_.insert(check.references().begin(), check.references().end());
    if (!check.id().empty() && !ids_.insert(xxh3(check.id())).second)
      add(Severity::error, "duplicate_id", check.where(),
          fmt::format("uuid {} occurs twice", check.id()), check.line());
    for (Finding& finding : check.findings()) add(std::move(finding));
  }

  // As report, merge, submit and verify read them: valid means that these work.
  void files_beside() {
    const auto collection =
        read_collection(root_, [](std::size_t, const std::string&, const Json&) {});
    if (!collection)
      add(Severity::error, collection.error().code, collection_file, collection.error().message);
    const auto verification = read_verification(root_);
    if (!verification)
      add(Severity::error, verification.error().code, verification_file,
          verification.error().message);
  }

  void orphans() {
    const std::set<std::string> unfinished = unfinished_blobs(root_);
    for (const fs::path& path : files("blob/workloads", ".safetensors")) {
      ++report_.blobs;
      if (referenced_.contains(xxh3(path.string()))) continue;
      if (unfinished.contains(path.string()))
        add(Severity::warning, "unfinished_blob", path.string(),
            "left by an interrupted run; the next sanitize removes it");
      else
        add(Severity::error, "orphan_blob", path.string(),
            "no workload names it; delete it or restore its line");
    }
  }

  const fs::path root_;
  const IndexChecksOf& checks_of_;
  Dataset dataset_;
  ValidationReport report_;
  std::set<fs::path> workloads_paths_;            ///< of its definitions
  std::unordered_set<Hash128> ids_, referenced_;  ///< hashes of ids, and of blob paths
  /// Findings by file and code.
  std::map<std::pair<std::string, std::string>, std::vector<std::size_t>> alike_;
  std::map<std::size_t, std::size_t> more_;  ///< by the last finding reported
};

}  // namespace

bool ValidationReport::is_valid() const {
  return std::ranges::none_of(findings,
                              [](const Finding& f) { return f.severity == Severity::error; });
}

Result<ValidationReport> validate(const fs::path& root, const IndexChecksOf& checks_of) {
  return Validator(root, checks_of).run();
}

}  // namespace cw

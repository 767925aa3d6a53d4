#include "dataset/dataset.h"

#include <algorithm>
#include <set>

#include <asm/unistd.h>  // glibc 2.31 does not name openat2(2)
#include <fcntl.h>
#include <linux/openat2.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/file.h"
#include "base/hash.h"
#include "base/lines.h"
#include "tensor/safetensors.h"

namespace cw {
namespace {

namespace fs = std::filesystem;

constexpr std::uint64_t max_blob_tensor = std::uint64_t{4} << 30;

// An input of a stored workload, as given in its line.
struct BlobTensor {
  std::string path, key;
};
using LineInput = std::variant<RandomInput, AbsentInput, Operand, BlobTensor>;

std::optional<std::vector<std::int64_t>> axes_of(const Definition& definition,
                                                 const Json& workload) {
  const auto axes = workload.find("axes");
  if (axes == workload.end() || !axes->is_object()) return std::nullopt;
  std::vector<std::int64_t> values;
  for (const Axis& axis : definition.axes) {
    if (axis.constant) {
      values.push_back(*axis.constant);
      continue;
    }
    const auto value = axes->find(axis.name);
    if (value == axes->end() || !value->is_number_integer()) return std::nullopt;
    values.push_back(value->get<std::int64_t>());
  }
  return values;
}

Result<std::vector<LineInput>> inputs_of(const Definition& definition, const Json& workload) {
  std::vector<LineInput> result;
  const auto inputs = workload.find("inputs");
  const bool has_inputs = inputs != workload.end() && inputs->is_object();

  for (const TensorSpec& spec : definition.inputs) {
    const auto found = has_inputs ? inputs->find(spec.name) : workload.end();
    const bool given = has_inputs && found != inputs->end() && found->is_object();
    const std::string type = given ? string_member(*found, "type") : "";

    if (!given) {
      result.emplace_back(AbsentInput{});
    } else if (type == "scalar" && found->contains("value") &&
               !found->at("value").is_structured()) {
      const Json& value = found->at("value");
      if (!value.is_number() && !value.is_boolean())
        return fail("workloads_invalid", "input {}: {} is not a scalar", spec.name, brief(value));
      if (value.is_boolean())
        result.emplace_back(Operand(value.get<bool>()));
      else if (is_integer(spec.dtype) && value.is_number_integer())
        result.emplace_back(Operand(value.get<std::int64_t>()));
      else
        result.emplace_back(Operand(value.get<double>()));
    } else if (type == "safetensors") {
      result.emplace_back(
          BlobTensor{string_member(*found, "path"), string_member(*found, "tensor_key")});
    } else {
      result.emplace_back(RandomInput{});
    }
  }
  return result;
}

// Names that a mistyped one may have meant: those with the longest common prefix.
std::vector<std::string> similar(const Dataset& dataset, std::string_view wanted) {
  std::vector<std::pair<std::size_t, std::string>> ranked;
  for (const Definition& definition : dataset.definitions) {
    const auto common =
        std::mismatch(wanted.begin(), wanted.end(), definition.name.begin(), definition.name.end());
    ranked.emplace_back(static_cast<std::size_t>(common.first - wanted.begin()), definition.name);
  }
  std::ranges::stable_sort(ranked, [](const auto& a, const auto& b) { return a.first > b.first; });
  std::vector<std::string> names;
  for (const auto& [length, name] : ranked)
    if (names.size() < 3 && length >= 3) names.push_back(name);
  return names;
}

// Without the op type's folder if the file exists only there.
fs::path usual_or_flat(const fs::path& root, const fs::path& usual) {
  const auto is_there = [&root](const fs::path& path) {
    std::error_code error;
    return fs::exists(fs::symlink_status(root / path, error));
  };
  const fs::path flat = *usual.begin() / usual.filename();
  std::error_code ignored;
  return !is_there(usual) && is_there(flat) && !fs::is_directory(root / flat, ignored) ? flat
                                                                                       : usual;
}

Result<std::vector<SafetensorsEntry>> blob_header(const fs::path& path) {
  auto entries = read_safetensors_header(path.string());
  if (!entries && entries.error().code == "safetensors_malformed" && is_lfs_pointer(path))
    return fail("blob_not_fetched", "{} is a git-lfs pointer; run git lfs pull", path.string());
  return entries;
}

Result<SafetensorsEntry> entry_of(const std::vector<SafetensorsEntry>& entries,
                                  const fs::path& path, const std::string& key) {
  for (const SafetensorsEntry& entry : entries)
    if (entry.name == key) return entry;
  return fail("tensor_missing", "{}: no tensor {} in it", path.string(), key);
}

Result<std::string> digest(const FileDescriptor& file, const fs::path& path,
                           const SafetensorsEntry& entry) {
  static thread_local std::string buffer;
  buffer.resize(std::size_t{256} << 10);
  Sha256 hash;
  for (std::uint64_t position = entry.begin; position < entry.end;) {
    const auto size =
        static_cast<std::size_t>(std::min<std::uint64_t>(buffer.size(), entry.end - position));
    CW_CHECK(read_exactly(file, position, size, buffer.data(), path.string()));
    hash.add(std::string_view(buffer).substr(0, size));
    position += size;
  }
  return hash.hex();
}

}  // namespace

Result<Dataset> Dataset::open(const fs::path& root) {
  Dataset dataset{.root = root, .definitions = {}, .definition_paths = {}, .bad_definitions = {}};
  std::error_code error;
  const fs::path folder = root / "definitions";
  if (!fs::is_directory(folder, error))
    return fail("not_found",
                "{}: contains no folder definitions/; --trace-dir takes a flashinfer-trace dataset",
                root.string());

  // Every definition file, whatever its folder.
  std::vector<fs::path> paths;
  for (fs::recursive_directory_iterator
           it(folder, fs::directory_options::skip_permission_denied, error),
       end;
       !error && it != end; it.increment(error))
    if (it->path().extension() == ".json" && !is_litter(it->path()) && !it->is_directory(error))
      paths.push_back(it->path());
  std::ranges::sort(paths);

  // An unusable file does not stop the others.
  for (const fs::path& path : paths) {
    const std::string relative = path.lexically_relative(root).string();
    auto definition = load_definition(path);
    if (definition && dataset.definition_paths.contains(definition->name))
      definition = fail("definition_invalid", "{}: name: another file defines {} too",
                        path.string(), definition->name);
    if (!definition) {
      dataset.bad_definitions.push_back({relative, definition.error()});
      continue;
    }
    dataset.definition_paths[definition->name] = relative;
    dataset.definitions.push_back(std::move(*definition));
  }

  if (dataset.definitions.empty())
    return fail("no_definitions", "{}: contains no usable definition{}", folder.string(),
                dataset.bad_definitions.empty()
                    ? ""
                    : "; the first problem: " + dataset.bad_definitions[0].error.message);

  std::ranges::sort(dataset.definitions,
                    [](const auto& a, const auto& b) { return a.name < b.name; });
  return dataset;
}

const Definition* Dataset::find(std::string_view name) const {
  const auto found =
      std::ranges::find_if(definitions, [name](const Definition& d) { return d.name == name; });
  return found == definitions.end() ? nullptr : &*found;
}

std::string Dataset::place_of(const fs::path& path) const {
  const Definition* const definition = find(path.stem().string());
  return definition == nullptr ? "belongs to no definition here; workloads belong in "
                                 "workloads/OP_TYPE/DEFINITION.jsonl"
                               : fmt::format("belongs in {}; move its lines there",
                                             workloads_file(root, *definition).string());
}

Result<void> Dataset::check_places() const {
  std::set<fs::path> known;
  for (const Definition& definition : definitions) known.insert(workloads_file(root, definition));
  std::error_code error;
  for (fs::recursive_directory_iterator it(root / "workloads", error), end; !error && it != end;
       it.increment(error)) {
    const fs::path path = it->path().lexically_relative(root);
    if (is_folder_link(*it))
      return fail("folder_linked", "{}: {} is a link to a folder; run validate", root.string(),
                  path.string());
    if (path.extension() == ".jsonl" && !is_litter(path) && !known.contains(path))
      return fail("misplaced", "{}: {} {}", root.string(), path.string(), place_of(path));
  }
  return {};
}

Result<std::vector<const Definition*>> choose_definitions(
    const Dataset& dataset, const std::vector<std::string>& names,
    const std::vector<std::string>& op_types) {
  // Every name has to exist; a wrong one gets the nearest as a hint.
  for (const std::string& name : names) {
    if (dataset.find(name) != nullptr) continue;
    for (const BadDefinition& bad : dataset.bad_definitions)
      if (fs::path(bad.path).stem() == name) return tl::unexpected(bad.error);
    const auto candidates = similar(dataset, name);
    return fail(
        "definition_unknown", "no definition is called {} in {}{}", name, dataset.root.string(),
        candidates.empty() ? std::string()
                           : fmt::format("; did you mean {}?", fmt::join(candidates, ", ")));
  }

  const auto contains = [](const std::vector<std::string>& list, const std::string& item) {
    return std::ranges::find(list, item) != list.end();
  };
  std::vector<const Definition*> chosen;
  std::set<std::string> known;
  for (const Definition& definition : dataset.definitions) {
    known.insert(definition.op_type);
    if ((names.empty() || contains(names, definition.name)) &&
        (op_types.empty() || contains(op_types, definition.op_type)))
      chosen.push_back(&definition);
  }

  for (const std::string& op_type : op_types)
    if (!known.contains(op_type))
      return fail("definition_unknown", "no definition has op type {}; the dataset has {}", op_type,
                  fmt::join(known, ", "));
  if (chosen.empty() && !names.empty())
    return fail("definition_unknown", "no definition is called {} and also has op type {}",
                fmt::join(names, " or "), fmt::join(op_types, " or "));
  return chosen;
}

fs::path Dataset::workloads_path(const Definition& definition) {
  return fs::path("workloads") / definition.op_type / (definition.name + ".jsonl");
}

fs::path Dataset::workloads_file(const fs::path& root, const Definition& definition) {
  return usual_or_flat(root, workloads_path(definition));
}

fs::path Dataset::definition_file(const fs::path& root, const Definition& definition) {
  return usual_or_flat(root,
                       fs::path("definitions") / definition.op_type / (definition.name + ".json"));
}

bool is_lfs_pointer(const fs::path& path) {
  const auto content = read_file(AT_FDCWD, path.string(), 1024);
  return content && content->starts_with("version https://git-lfs");
}

std::vector<std::string> others_in(const fs::path& root) {
  static const std::set<std::string, std::less<>> known{
      "definitions",       "workloads", "blob",    "collection.json",
      "verification.json", "README.md", "LICENSE", "report.html"};
  std::vector<std::string> others;
  (void)visit_directory(root, [&others](std::string_view name, bool) {
    if (!name.starts_with('.') && !known.contains(name)) others.emplace_back(name);
  });
  std::ranges::sort(others);
  return others;
}

bool is_folder_link(const fs::directory_entry& entry) {
  std::error_code ignored;
  return entry.is_symlink(ignored) && entry.is_directory(ignored);
}

bool is_inside(const fs::path& root, const fs::path& path) {
  // The kernel walks the path once (Linux 5.6). What it refuses, or does not find, is checked step
  // by step: a link may leave the dataset and come back.
  if (const FileDescriptor folder(::open(root.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC)); folder) {
    open_how how{};
    how.flags = O_PATH | O_CLOEXEC;
    how.resolve = RESOLVE_BENEATH;
    const std::string relative = path.lexically_relative(root).string();
    const FileDescriptor found(static_cast<int>(
        ::syscall(__NR_openat2, folder.get(), relative.c_str(), &how, sizeof how)));
    if (found) return true;
  }
  std::error_code error;
  const fs::path relative =
      fs::weakly_canonical(path, error).lexically_relative(fs::weakly_canonical(root, error));
  return !error && !relative.empty() && relative.begin()->string() != "..";
}

Result<std::shared_ptr<const DenseTensor>> read_blob_entry(const fs::path& blob,
                                                           const SafetensorsEntry& entry) {
  if (entry.end - entry.begin > max_blob_tensor)
    return fail("too_large", "{}: tensor {} is too large", blob.string(), entry.name);
  CW_TRY(const FileDescriptor file, open_for_reading(AT_FDCWD, blob.string()));
  DenseTensor tensor{entry.dtype, entry.shape, std::string(entry.end - entry.begin, '\0')};
  CW_CHECK(
      read_exactly(file, entry.begin, tensor.bytes.size(), tensor.bytes.data(), blob.string()));
  return std::make_shared<const DenseTensor>(std::move(tensor));
}

Result<fs::path> resolve_blob(const fs::path& root, const std::string& path) {
  const fs::path normal = fs::path(path).lexically_normal();
  if (path.empty() || normal.is_absolute() || normal.begin()->string() == "..")
    return fail("path_escapes", "blob path '{}' leads out of the dataset", path);
  if (!is_inside(root, root / normal))
    return fail("path_escapes", "blob path '{}' leads out of the dataset through a link", path);
  return root / normal;
}

Result<StoredWorkload> parse_stored_workload(std::string_view line, std::string_view where) {
  auto json = parse_json(line);
  const bool is_workload = json && json->is_object() && json->contains("workload") &&
                           !string_member(json->at("workload"), "uuid").empty();
  if (!is_workload) return fail("workloads_invalid", "{}: not a workload; run validate", where);
  std::string id = string_member(json->at("workload"), "uuid");
  std::string definition = string_member(*json, "definition");
  return StoredWorkload{std::move(id), std::move(json->at("workload")), std::move(definition)};
}

Result<void> each_stored_workload(const fs::path& root, const Definition& definition,
                                  const std::function<void(StoredWorkload)>& visit) {
  const fs::path path = root / Dataset::workloads_file(root, definition);
  auto lines = LineReader::open(path);
  if (!lines && lines.error().code == "not_found") return {};
  if (!lines) return tl::unexpected(lines.error());
  for (;;) {
    CW_TRY(const auto line, lines->next());
    if (!line) return {};
    CW_TRY(auto workload, parse_stored_workload(
                              line->text, fmt::format("{}, line {}", path.string(), line->number)));
    visit(std::move(workload));
  }
}

Result<std::vector<StoredWorkload>> read_stored_workloads(const fs::path& root,
                                                          const Definition& definition) {
  std::vector<StoredWorkload> stored;
  CW_CHECK(each_stored_workload(
      root, definition, [&](StoredWorkload workload) { stored.push_back(std::move(workload)); }));
  return stored;
}

std::set<std::string> blob_paths(const Json& workload) {
  std::set<std::string> paths;
  if (const auto inputs = workload.find("inputs"); inputs != workload.end() && inputs->is_object())
    for (const auto& [name, input] : inputs->items())
      if (const std::string path = string_member(input, "path"); !path.empty())
        paths.insert(fs::path(path).lexically_normal().string());
  return paths;
}

Result<Workload> load_workload(const fs::path& root, const Definition& definition,
                               const Json& workload) {
  auto axes = axes_of(definition, workload);
  if (!axes) return fail("workloads_invalid", "its axes are not those of {}", definition.name);
  CW_TRY(const std::vector<LineInput> inputs, inputs_of(definition, workload));

  Workload result{&definition, std::move(*axes), {}};
  for (const LineInput& input : inputs) {
    if (const auto* blob = std::get_if<BlobTensor>(&input)) {
      CW_TRY(const fs::path path, resolve_blob(root, blob->path));
      CW_TRY(const auto entries, blob_header(path));
      CW_TRY(const SafetensorsEntry entry, entry_of(entries, path, blob->key));
      CW_TRY(auto tensor, read_blob_entry(path, entry));
      result.inputs.emplace_back(std::move(tensor));
    } else if (const auto* scalar = std::get_if<Operand>(&input)) {
      result.inputs.emplace_back(*scalar);
    } else if (std::holds_alternative<AbsentInput>(input)) {
      result.inputs.emplace_back(AbsentInput{});
    } else {
      result.inputs.emplace_back(RandomInput{});
    }
  }
  return result;
}

Result<Identified> identify(const fs::path& root, const Definition& definition,
                            const Json& workload) {
  auto axes = axes_of(definition, workload);
  if (!axes) return fail("workloads_invalid", "its axes are not those of {}", definition.name);
  CW_TRY(const std::vector<LineInput> inputs, inputs_of(definition, workload));

  Identified result{std::move(*axes), {}, {}};
  std::vector<IdentityInput> identity;

  // A blob is opened once, however many inputs it holds.
  struct Blob {
    fs::path path;
    std::vector<SafetensorsEntry> entries;
    FileDescriptor file;
  };
  std::map<std::string, Blob> blobs;

  for (const LineInput& input : inputs) {
    identity.emplace_back();
    if (const auto* scalar = std::get_if<Operand>(&input)) identity.back() = *scalar;
    const auto* blob = std::get_if<BlobTensor>(&input);
    if (blob == nullptr) continue;
    if (!blobs.contains(blob->path)) {
      CW_TRY(fs::path path, resolve_blob(root, blob->path));
      CW_TRY(auto entries, blob_header(path));
      CW_TRY(FileDescriptor file, open_for_reading(AT_FDCWD, path.string()));
      blobs.emplace(blob->path, Blob{std::move(path), std::move(entries), std::move(file)});
      result.blobs.insert(fs::path(blob->path).lexically_normal().string());
    }
    const auto& [path, entries, file] = blobs.at(blob->path);

    CW_TRY(const SafetensorsEntry entry, entry_of(entries, path, blob->key));
    CW_TRY(std::string hash, digest(file, path, entry));
    identity.back() = TensorDigest{entry.dtype, entry.shape, std::move(hash)};
  }
  result.id = workload_id(definition, result.axes, identity);
  return result;
}

std::map<std::string, std::string> index_by_content(
    const fs::path& root, const Definition& definition, const std::vector<StoredWorkload>& stored,
    const std::vector<std::vector<std::int64_t>>& wanted, std::size_t& unreadable) {
  std::map<std::string, std::string> index;
  const std::set<std::vector<std::int64_t>> axes_wanted(wanted.begin(), wanted.end());
  for (const StoredWorkload& workload : stored) {
    const auto axes = axes_of(definition, workload.json);
    if (!axes || !axes_wanted.contains(*axes)) continue;
    const auto identified = identify(root, definition, workload.json);
    if (identified)
      index.emplace(identified->id, workload.id);
    else
      ++unreadable;
  }
  return index;
}

}  // namespace cw

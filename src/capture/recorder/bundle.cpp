#include "capture/recorder/bundle.h"

#include <algorithm>
#include <cstdlib>

#include <fcntl.h>

#include "base/file.h"
#include "base/hash.h"
#include "base/output.h"
#include "base/yaml.h"
#include "capture/recorder/built_in_recorder.h"

namespace cw::recording {
namespace {

namespace fs = std::filesystem;

// Checks the rules here: inside the engine nobody would see the recorder's errors.
Result<void> check_rules(const Json& config) {
  const auto is_text = [](const Json& item) { return item.is_string(); };

  for (const char* name : {"decorators", "functions", "scopes", "batches", "state"}) {
    const auto found = config.find(name);
    if (found == config.end())
      return fail("rules_invalid", "the recorder's rules have no `{}`", name);
    const bool is_map = std::string_view(name) == "decorators";
    if (is_map ? !found->is_object() : !found->is_array())
      return fail("rules_invalid", "the recorder's rules: `{}` is no {}", name,
                  is_map ? "map of modules to names" : "list");

    for (const auto& [key, item] : found->items()) {
      const bool is_right = is_map ? item.is_array() && std::ranges::all_of(item, is_text)
                            : std::string_view(name) == "state"
                                ? is_text(item)
                                : item.is_object() && is_text(item.value("module", Json())) &&
                                      is_text(item.value("name", Json()));
      if (!is_right)
        return fail("rules_invalid", "the recorder's rules: `{}` of `{}` is malformed", key, name);
    }
  }

  // Added later: older rules lack it.
  const Json objects = config.value("objects", Json::object());
  if (!objects.is_object())
    return fail("rules_invalid", "the recorder's rules: `objects` is no map of functions");
  for (const auto& [function, parameters] : objects.items())
    if (!parameters.is_object() || !std::ranges::all_of(parameters, [&](const Json& attributes) {
          return attributes.is_array() && std::ranges::all_of(attributes, is_text);
        }))
      return fail("rules_invalid", "the recorder's rules: `{}` of `objects` is malformed",
                  function);
  return {};
}

}  // namespace

Result<std::string> read_recorder_rules(const fs::path& file) {
  constexpr std::size_t limit = 1 << 20;
  if (file.empty()) return std::string(built_in_recorder_rules());
  return read_file(AT_FDCWD, file.string(), limit);
}

Result<fs::path> bundle_cache() {
  const auto from = [](const char* name) -> fs::path {
    const char* value = std::getenv(name);
    return value != nullptr && *value == '/' ? fs::path(value) : fs::path();
  };
  fs::path base = from("XDG_CACHE_HOME");
  if (base.empty() && !from("HOME").empty()) base = from("HOME") / ".cache";
  if (base.empty()) return state_folder();
  // Python runs what is there: nobody else may write to it.
  const auto made = ensure_private_directory(base / "collect-workloads");
  if (made) return base / "collect-workloads";
  return from("XDG_CACHE_HOME").empty() ? state_folder() : tl::unexpected(made.error());
}

Result<Json> recorder_config(const CaptureNeeds& needs, const std::string& rules) {
  try {
    Json config = to_json(YAML::Load(rules));
    if (!config.is_object() || config.value("format", Json()) != 1)
      return fail("rules_invalid",
                  "the recorder's rules are in a format that this version does not support");
    config.erase("format");
    config.erase("tried");  // for doctor
    CW_CHECK(check_rules(config));
    config["values"] = needs.index_values;
    if (const auto only = needs.functions(); !only.empty()) config["only"] = only;
    return config;
  } catch (const YAML::Exception& error) {
    return fail("rules_invalid", "the recorder's rules: {}", error.what());
  }
}

Result<fs::path> unpack_bundle(const Json& config) {
  const std::string config_text = dump_indented(config) + "\n";
  Sha256 digest;
  for (const BuiltInFile& file : built_in_recorder()) digest.add(file.content);
  digest.add(config_text);
  CW_TRY(const fs::path cache, bundle_cache());
  if (cache.string().find(':') != std::string::npos)
    return fail("cache_unusable",
                "the recorder cannot be loaded from {}: PYTHONPATH is split at colons",
                cache.string());
  const fs::path folder = cache / ("recorder-" + digest.hex().substr(0, 16));
  std::vector<BuiltInFile> files(built_in_recorder().begin(), built_in_recorder().end());
  files.push_back({"config.json", config_text});
  const auto is_whole = [&] {
    return std::ranges::all_of(files, [&](const BuiltInFile& file) {
      const auto known = read_file(AT_FDCWD, (folder / file.name).string(), file.content.size());
      return known && *known == file.content;
    });
  };
  std::error_code error;
  if (fs::exists(folder, error)) CW_CHECK(ensure_private_directory(folder));
  if (is_whole()) {
    fs::last_write_time(folder, fs::file_time_type::clock::now(), error);  // for `clean`
    return folder;
  }

  // Written next to it and renamed: others may be unpacking the same files, and processes may be
  // using the existing ones.
  CW_TRY(const TemporaryDirectory beside, TemporaryDirectory::create(cache));
  for (const BuiltInFile& file : files)
    CW_CHECK(write_atomically(beside.path() / file.name, file.content, Durability::process,
                              Access::owner));
  fs::rename(beside.path(), folder, error);
  if (!error || is_whole()) return folder;

  // The existing files are damaged: replace them one by one.
  for (const BuiltInFile& file : files) {
    fs::rename(beside.path() / file.name, folder / file.name, error);
    if (error)
      return fail("unwritable", "cannot write {}: {}", (folder / file.name).string(),
                  error.message());
  }
  return folder;
}

Variables bundle_environment(const fs::path& bundle, const fs::path& folder,
                             const CaptureOptions& options) {
  std::string path = bundle.string();
  if (const char* before = std::getenv("PYTHONPATH"); before != nullptr && *before != 0)
    path += std::string(":") + before;

  Variables variables{{"PYTHONPATH", path},
                      {"COLLECT_WORKLOADS_RECORD", fs::absolute(folder).string()},
                      {"COLLECT_WORKLOADS_RECORD_BUDGET", std::to_string(options.record_budget)}};
  if (options.keeps_values) variables.emplace_back("COLLECT_WORKLOADS_RECORD_VALUES", "1");
  return variables;
}

}  // namespace cw::recording

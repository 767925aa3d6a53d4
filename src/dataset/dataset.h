// A flashinfer-trace dataset on disk.
//
//   definitions/{op_type}/{name}.json      what kernels compute
//   workloads/{op_type}/{name}.jsonl       one workload per line
//   blob/workloads/{op_type}/{name}/…      their tensors, as safetensors
//
// Small datasets, such as flashinfer-bench's examples, are often flat: without the {op_type}
// folders. They are read and written as they are; what is made from them (merge, submit) has the
// folders.
#pragma once

#include <filesystem>
#include <functional>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "base/json.h"
#include "definition/definition.h"
#include "tensor/safetensors.h"
#include "workload/workload.h"

namespace cw {

/// A definition file that could not be used.
struct BadDefinition {
  std::string path;
  Error error;
};

struct Dataset {
  std::filesystem::path root;
  std::vector<Definition> definitions;                            ///< by name; names are unique
  std::map<std::string, std::filesystem::path> definition_paths;  ///< relative to the root, by name
  std::vector<BadDefinition> bad_definitions;

  /// Reads all definitions. Error codes: "not_found", "no_definitions".
  static Result<Dataset> open(const std::filesystem::path& root);

  const Definition* find(std::string_view name) const;
  /// For people: where a workloads file that lies elsewhere belongs.
  std::string place_of(const std::filesystem::path& path) const;
  /// Checks that all workloads are where they are looked for, so that none is overlooked. Error
  /// codes: "misplaced", "folder_linked".
  Result<void> check_places() const;
  /// Where a definition's workloads belong, relative to the root: workloads/OP_TYPE/NAME.jsonl.
  static std::filesystem::path workloads_path(const Definition& definition);
  /// Where they are in the dataset at `root`, relative to it: workloads/NAME.jsonl if only that
  /// exists, as in a flat dataset; otherwise where they belong.
  static std::filesystem::path workloads_file(const std::filesystem::path& root,
                                              const Definition& definition);
  /// The same for a definition of that op type and name: definitions/OP_TYPE/NAME.json, or
  /// definitions/NAME.json.
  static std::filesystem::path definition_file(const std::filesystem::path& root,
                                               const Definition& definition);
};

/// Definitions with one of these names and one of these op types; an empty list allows any. Error
/// code "definition_unknown": no such name or op type (with similar names), or no definition that
/// has both.
Result<std::vector<const Definition*>> choose_definitions(const Dataset& dataset,
                                                          const std::vector<std::string>& names,
                                                          const std::vector<std::string>& op_types);

/// A line of a workloads file.
struct StoredWorkload {
  std::string id;
  Json json;               ///< the "workload" object
  std::string definition;  ///< the name in the line
};

/// One line; errors ("workloads_invalid") begin with `where`.
Result<StoredWorkload> parse_stored_workload(std::string_view line, std::string_view where);

/// The lines of a definition's workloads file; empty if there is no file. Lines that are not
/// workloads are an error ("workloads_invalid"): a writer must not build on a file that it cannot
/// read.
Result<std::vector<StoredWorkload>> read_stored_workloads(const std::filesystem::path& root,
                                                          const Definition& definition);
/// The same, one at a time.
Result<void> each_stored_workload(const std::filesystem::path& root, const Definition& definition,
                                  const std::function<void(StoredWorkload)>& visit);

/// The blobs that a stored workload names, as it names them (perhaps outside the dataset), but
/// lexically normalized.
std::set<std::string> blob_paths(const Json& workload);

/// Turns a stored workload back into a Workload, reading its tensors. Error codes:
/// "workloads_invalid", "path_escapes", "tensor_missing", "blob_not_fetched", and those of reading
/// blobs.
Result<Workload> load_workload(const std::filesystem::path& root, const Definition& definition,
                               const Json& workload);

/// What a stored workload is, whatever its id says.
struct Identified {
  std::vector<std::int64_t> axes;  ///< as definition.axes
  std::string id;                  ///< as workload_id() makes it
  std::set<std::string> blobs;     ///< the blobs it names, relative to the root
};
/// Reads its tensors in pieces, in constant memory. Errors as load_workload().
Result<Identified> identify(const std::filesystem::path& root, const Definition& definition,
                            const Json& workload);

/// Maps the id derived from content to the actual id of existing workloads, so that what exists
/// under another id is recognised. Blobs are read only for those whose var axes are in `wanted`.
/// Workloads whose blobs cannot be read (git-lfs pointers) are counted in `unreadable`.
std::map<std::string, std::string> index_by_content(
    const std::filesystem::path& root, const Definition& definition,
    const std::vector<StoredWorkload>& stored, const std::vector<std::vector<std::int64_t>>& wanted,
    std::size_t& unreadable);

/// Whether a file is a pointer that git-lfs leaves in place of a file it has not fetched.
bool is_lfs_pointer(const std::filesystem::path& path);

/// What a dataset has besides definitions, workloads and their blobs, which is never carried along:
/// "solutions", "traces", "tests", …; names of entries in its root.
std::vector<std::string> others_in(const std::filesystem::path& root);

/// Whether a directory entry is a symlink to a folder: readers never follow it.
bool is_folder_link(const std::filesystem::directory_entry& entry);

/// Whether a path really is inside the dataset after resolving symlinks.
bool is_inside(const std::filesystem::path& root, const std::filesystem::path& path);

/// The bytes of one tensor of a blob. Error codes: "too_large", and those of reading.
Result<std::shared_ptr<const DenseTensor>> read_blob_entry(const std::filesystem::path& blob,
                                                           const SafetensorsEntry& entry);

/// The absolute path of a blob that a workload names; error "path_escapes" if it is outside the
/// dataset.
Result<std::filesystem::path> resolve_blob(const std::filesystem::path& root,
                                           const std::string& path);

}  // namespace cw

// The Hugging Face Hub's HTTP API, as far as needed for a pull request to a dataset. The reference
// is what huggingface_hub 1.33 sends: hf_api.py (whoami, repo info, discussions,
// paths-info), _commit_api.py (preupload, commit), lfs.py (LFS batch, multipart uploads). Xet, its
// newer transport, is not supported: the Hub accepts LFS from clients that offer nothing else.
#pragma once

#include <filesystem>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "base/json.h"
#include "base/result.h"
#include "submit/web.h"

namespace cw {

/// A file of a commit: its content, or a local file with it.
struct UploadFile {
  std::string path;  ///< in the repository
  std::string content{};
  std::filesystem::path source{};  ///< empty: `content`
  std::uint64_t size = 0;
  std::string sha256{};  ///< lower-case hex

  /// Reads the content once, for size and hash.
  static Result<UploadFile> of_file(std::string path, std::filesystem::path source);
  static UploadFile of_text(std::string path, std::string content);
  /// The first `max_size` bytes.
  Result<std::string> head(std::uint64_t max_size) const;
};

enum class UploadMode { regular, lfs };

struct Upload {
  const UploadFile* file;
  UploadMode mode = UploadMode::regular;
  bool is_unchanged = false;  ///< the revision already has these bytes at this path
};

struct HubUser {
  std::string name;
  bool may_write = true;  ///< as far as the token's role says
};

struct PullRequest {
  std::uint64_t number = 0;
  std::string title, url;
};

struct HubCommit {
  std::string id, url;
  std::optional<PullRequest> pull_request;  ///< if it opened one
};

/// A file in the repository.
struct RemoteFile {
  std::uint64_t size = 0;
  std::string git_id;      ///< SHA-1 of the git blob; for an LFS file, of its pointer
  std::string lfs_sha256;  ///< empty: not an LFS file
};

/// One dataset repository. Error codes, besides WebClient's: "hub_token" (401), "hub_read_only",
/// "hub_forbidden" (403), "hub_gated", "hub_not_found" (404, no such repository or revision),
/// "hub_moved" (409, 412: the revision is not what it was), "hub_too_large" (413), "hub_busy"
/// (429), "hub_failed" (other statuses), "hub_malformed" (an answer that makes no sense), "hub_lfs"
/// (an object was rejected). Messages end with what the Hub itself said.
class Hub {
 public:
  /// `repo`: "owner/name". `web` must outlive it.
  Hub(WebClient& web, std::string endpoint, std::string repo);

  const std::string& endpoint() const { return endpoint_; }
  /// For a browser.
  std::string page() const;
  std::string page(std::uint64_t pull_request) const;

  Result<HubUser> whoami();
  /// The commit that a revision ("main", "refs/pr/7") points to.
  Result<std::string> head(const std::string& revision);
  /// Open pull requests of an author whose title contains `text`.
  Result<std::vector<PullRequest>> pull_requests(const std::string& author, std::string_view text);
  /// Paths of all files below a folder; none if there is no such folder.
  Result<std::vector<std::string>> tree(const std::string& revision, const std::string& folder);
  /// Those of `paths` that the revision has.
  Result<std::map<std::string, RemoteFile>> files(const std::string& revision,
                                                  const std::vector<std::string>& paths);
  /// A file's content, LFS or not, into `to`; false if the revision has no such file.
  Result<bool> download(const std::string& revision, const std::string& path,
                        const std::filesystem::path& to);

  /// Whether a commit goes to the revision itself, or opens a pull request against it.
  enum class CommitKind { direct, new_pull_request };

  /// How to send each file, and which already exist.
  Result<std::vector<Upload>> prepare(const std::vector<UploadFile>& files,
                                      const std::string& revision, CommitKind kind);
  /// Sends the LFS files that the Hub lacks, for a commit on `revision` (empty: on a new pull
  /// request). `progress` is called with how many are done, one call at a time.
  Result<void> upload(const std::vector<Upload>& uploads, const std::string& revision,
                      const std::function<void(std::size_t done, std::size_t all)>& progress);
  /// One commit on `revision`, or on a new pull request. Not retried automatically if the response
  /// is lost.
  Result<HubCommit> commit(const std::vector<Upload>& uploads, const std::string& title,
                           const std::string& description, const std::string& revision,
                           const std::string& parent, CommitKind kind);

 private:
  std::string api(std::string_view rest) const;
  Result<Json> call(const WebRequest& request, std::string_view what);
  Result<void> check(const WebResponse& response, std::string_view what) const;
  Result<void> upload_one(const UploadFile& file, const Json& actions);
  Result<void> upload_parts(const UploadFile& file, const Json& upload, std::uint64_t part_size);

  WebClient& web_;
  const std::string endpoint_, repo_;
};

/// SHA-1 of a git blob with this content, lower-case hex.
std::string git_blob_id(std::string_view content);

}  // namespace cw

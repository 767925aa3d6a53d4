#include "submit/hub.h"

#include <algorithm>
#include <mutex>
#include <set>

#include <fcntl.h>
#include <openssl/evp.h>

#include "base/file.h"
#include "base/hash.h"
#include "base/parallel.h"

namespace cw {
namespace {

namespace fs = std::filesystem;

constexpr std::size_t files_a_request = 256;
constexpr std::size_t paths_a_request = 500;
constexpr std::size_t sample_size = 512;
constexpr std::size_t upload_threads = 8;
constexpr std::uint64_t max_regular = std::uint64_t{64} << 20;
constexpr std::size_t max_pages = 1000;            // of 1,000 files each
constexpr std::size_t max_discussion_pages = 200;  // of ten or more each
constexpr const char* lfs_type = "application/vnd.git-lfs+json";

std::string to_base64(std::string_view bytes) {
  std::string text(4 * ((bytes.size() + 2) / 3) + 1, '\0');
  const int size = ::EVP_EncodeBlock(reinterpret_cast<unsigned char*>(text.data()),
                                     reinterpret_cast<const unsigned char*>(bytes.data()),
                                     static_cast<int>(bytes.size()));
  text.resize(static_cast<std::size_t>(size));
  return text;
}

WebRequest post_json(std::string url, const Json& body, const char* type = "application/json") {
  return {.method = "POST",
          .url = std::move(url),
          .headers = {std::string("Content-Type: ") + type},
          .body = dump(body)};
}

tl::unexpected<Error> malformed(std::string_view what, std::string_view detail) {
  return fail("hub_malformed", "{}: the server's answer is malformed: {}", what, detail);
}

const Json* member(const Json& object, const char* name) {
  const auto found = object.find(name);
  return object.is_object() && found != object.end() ? &*found : nullptr;
}

// The next page of a list: Link: <URL>; rel="next" (RFC 8288).
std::string next_page(const std::string& link) {
  const std::size_t rel = link.find("rel=\"next\""), end = link.rfind('>', rel),
                    begin = link.rfind('<', rel);
  if (rel == std::string::npos || end == std::string::npos || begin == std::string::npos ||
      begin > end)
    return "";
  return link.substr(begin + 1, end - begin - 1);
}

std::string without_slash(std::string url) {
  while (url.ends_with('/')) url.pop_back();
  return url;
}

// The server's reason for a failure, cut to one line.
std::string reason_of(const WebResponse& response) {
  std::string text = response.header("x-error-message");
  if (text.empty()) {
    const auto json = parse_json(response.body);
    if (json && json->is_object())
      text = !string_member(*json, "error").empty() ? string_member(*json, "error")
                                                    : string_member(*json, "message");
  }
  if (text.empty()) text = response.body.substr(0, response.body.find('\n'));
  std::erase_if(text, [](unsigned char c) { return c < 0x20 || c == 0x7f; });
  return text.size() > 300 ? text.substr(0, 300) + "…" : text;
}

}  // namespace

std::string git_blob_id(std::string_view content) {
  const std::string head = fmt::format("blob {}", content.size());
  unsigned char digest[EVP_MAX_MD_SIZE];
  unsigned size = 0;
  const std::unique_ptr<EVP_MD_CTX, decltype(&::EVP_MD_CTX_free)> context(::EVP_MD_CTX_new(),
                                                                          ::EVP_MD_CTX_free);
  ::EVP_DigestInit_ex(context.get(), ::EVP_sha1(), nullptr);
  ::EVP_DigestUpdate(context.get(), head.c_str(), head.size() + 1);
  ::EVP_DigestUpdate(context.get(), content.data(), content.size());
  ::EVP_DigestFinal_ex(context.get(), digest, &size);
  return fmt::format("{:02x}", fmt::join(digest, digest + size, ""));
}

Result<UploadFile> UploadFile::of_file(std::string path, fs::path source) {
  CW_TRY(const FileDescriptor file, open_for_reading(AT_FDCWD, source.string()));
  CW_TRY(const std::uint64_t size, file_size(file, source.string()));
  Sha256 hash;
  std::string buffer;
  for (std::uint64_t position = 0; position < size; position += buffer.size()) {
    buffer.resize(
        static_cast<std::size_t>(std::min<std::uint64_t>(std::uint64_t{1} << 20, size - position)));
    CW_CHECK(read_exactly(file, position, buffer.size(), buffer.data(), source.string()));
    hash.add(buffer);
  }
  return UploadFile{std::move(path), {}, std::move(source), size, hash.hex()};
}

UploadFile UploadFile::of_text(std::string path, std::string content) {
  const std::uint64_t size = content.size();
  std::string hash = sha256_hex(content);
  return UploadFile{std::move(path), std::move(content), {}, size, std::move(hash)};
}

Result<std::string> UploadFile::head(std::uint64_t max_size) const {
  if (source.empty()) return content.substr(0, max_size);
  CW_TRY(const FileDescriptor file, open_for_reading(AT_FDCWD, source.string()));
  std::string bytes(static_cast<std::size_t>(std::min(size, max_size)), '\0');
  CW_CHECK(read_exactly(file, 0, bytes.size(), bytes.data(), source.string()));
  return bytes;
}

Hub::Hub(WebClient& web, std::string endpoint, std::string repo)
    : web_(web), endpoint_(without_slash(std::move(endpoint))), repo_(std::move(repo)) {}

std::string Hub::page() const {
  return endpoint_ + "/datasets/" + repo_;
}

std::string Hub::page(std::uint64_t pull_request) const {
  return fmt::format("{}/discussions/{}", page(), pull_request);
}

std::string Hub::api(std::string_view rest) const {
  return fmt::format("{}/api/datasets/{}{}", endpoint_, repo_, rest);
}

Result<void> Hub::check(const WebResponse& response, std::string_view what) const {
  if (response.status / 100 == 2) return {};
  const std::string reason = reason_of(response), kind = response.header("x-error-code");
  const std::string said = reason.empty() ? "" : fmt::format(" The server says: {}", reason);

  switch (response.status) {
    case 401:
      // The Hub gives this answer for repositories that do not exist, too.
      if (kind == "RepoNotFound")
        return fail("hub_not_found", "{}: the dataset {} does not exist, or it is private.{}", what,
                    repo_, said);
      return fail("hub_token", "{}: the token is not accepted; it is wrong or has expired.{}", what,
                  said);
    case 403:
      if (kind == "GatedRepo")
        return fail("hub_gated", "{}: {} is gated, and you have not been given access.{}", what,
                    repo_, said);
      return fail("hub_forbidden", "{}: this account or token is not allowed to do that.{}", what,
                  said);
    case 404:
      return fail(
          "hub_not_found",
          "{}: the dataset {} or the revision does not exist, or the token has no access to it.{}",
          what, repo_, said);
    case 409:
    case 412:
      return fail("hub_moved", "{}: somebody else has committed in the meantime.{}", what, said);
    case 413:
      return fail("hub_too_large", "{}: too large for the server.{}", what, said);
    case 429:
      return fail("hub_busy", "{}: too many requests.{}", what, said);
    default:
      return fail("hub_failed", "{}: status {}.{}", what, response.status, said);
  }
}

Result<Json> Hub::call(const WebRequest& request, std::string_view what) {
  CW_TRY(const WebResponse response, web_.send(request));
  CW_CHECK(check(response, what));
  auto json = parse_json(response.body);
  if (!json) return malformed(what, "it is not JSON");
  return std::move(*json);
}

Result<HubUser> Hub::whoami() {
  CW_TRY(const Json json, call({.url = endpoint_ + "/api/whoami-v2"}, "asking who you are"));
  HubUser user{string_member(json, "name"), true};
  if (user.name.empty()) return malformed("asking who you are", "it has no name");
  if (const Json* auth = member(json, "auth"))
    if (const Json* token = member(*auth, "accessToken"))
      user.may_write = string_member(*token, "role") != "read";
  return user;
}

Result<std::string> Hub::head(const std::string& revision) {
  const std::string what = fmt::format("looking at {} {}", repo_, revision);
  CW_TRY(const Json json, call({.url = api("/revision/" + percent_encoded(revision))}, what));
  std::string sha = string_member(json, "sha");
  if (sha.empty()) return malformed(what, "it names no commit");
  return sha;
}

Result<std::vector<PullRequest>> Hub::pull_requests(const std::string& author,
                                                    std::string_view text) {
  std::vector<PullRequest> found;
  const std::string what = "listing the pull requests";
  std::size_t seen = 0;
  for (std::size_t page_number = 0;; ++page_number) {
    CW_TRY(const Json json,
           call({.url = api(fmt::format("/discussions?p={}&type=pull_request&status=open&author={}",
                                        page_number, percent_encoded(author)))},
                what));
    const Json* list = member(json, "discussions");
    const Json* count = member(json, "count");

    if (list == nullptr || !list->is_array() || count == nullptr || !count->is_number_unsigned())
      return malformed(what, "it has no list");
    for (const Json& item : *list) {
      const Json* number = member(item, "num");
      if (number == nullptr || !number->is_number_unsigned())
        return malformed(what, "an item has no number");
      const std::string title = string_member(item, "title");
      if (title.find(text) != std::string::npos) {
        const auto id = number->get<std::uint64_t>();
        found.push_back({id, title, page(id)});
      }
    }

    seen += list->size();
    if (list->empty() || seen >= count->get<std::size_t>()) return found;
    if (page_number == max_discussion_pages) return malformed(what, "the list does not end");
  }
}

Result<std::vector<std::string>> Hub::tree(const std::string& revision, const std::string& folder) {
  const std::string what = "listing the files of " + repo_;
  std::vector<std::string> paths;
  std::string url = api(fmt::format("/tree/{}/{}?recursive=true&expand=false",
                                    percent_encoded(revision), percent_encoded(folder, "/")));
  for (std::size_t i = 0; !url.empty(); ++i) {
    if (i == max_pages) return malformed(what, "the list does not end");
    CW_TRY(const WebResponse response, web_.send({.url = url}));
    if (response.status == 404 && response.header("x-error-code") == "EntryNotFound") return paths;
    CW_CHECK(check(response, what));
    const auto json = parse_json(response.body);
    if (!json || !json->is_array()) return malformed(what, "it is not a list");
    for (const Json& item : *json)
      if (string_member(item, "type") == "file") paths.push_back(string_member(item, "path"));
    url = next_page(response.header("link"));
  }
  return paths;
}

Result<std::map<std::string, RemoteFile>> Hub::files(const std::string& revision,
                                                     const std::vector<std::string>& paths) {
  std::map<std::string, RemoteFile> result;
  const std::string what = "reading files of " + repo_;
  for (std::size_t begin = 0; begin < paths.size(); begin += paths_a_request) {
    std::string form = "expand=false";
    for (std::size_t i = begin; i < std::min(paths.size(), begin + paths_a_request); ++i)
      form += "&paths=" + percent_encoded(paths[i]);

    CW_TRY(const Json json, call({.method = "POST",
                                  .url = api("/paths-info/" + percent_encoded(revision)),
                                  .headers = {"Content-Type: application/x-www-form-urlencoded"},
                                  .body = std::move(form)},
                                 what));

    if (!json.is_array()) return malformed(what, "it is not a list");
    const std::set<std::string> asked(paths.begin(), paths.end());
    for (const Json& item : json) {
      if (string_member(item, "type") != "file" || !asked.contains(string_member(item, "path")))
        continue;
      const Json* lfs = member(item, "lfs");
      result[string_member(item, "path")] = {
          unsigned_member(item, "size"), string_member(item, "oid"),
          lfs != nullptr && lfs->is_object() ? string_member(*lfs, "oid") : ""};
    }
  }
  return result;
}

Result<bool> Hub::download(const std::string& revision, const std::string& path,
                           const fs::path& to) {
  CW_TRY(const WebResponse response,
         web_.send({.url = fmt::format("{}/resolve/{}/{}", page(), percent_encoded(revision),
                                       percent_encoded(path, "/")),
                    .save_to = to}));
  if (response.status == 404 && response.header("x-error-code") == "EntryNotFound") return false;
  CW_CHECK(check(response, "reading " + path));
  return true;
}

Result<std::vector<Upload>> Hub::prepare(const std::vector<UploadFile>& files,
                                         const std::string& revision, CommitKind kind) {
  const std::string what = "asking how files are to be sent";
  std::vector<Upload> uploads;
  for (std::size_t begin = 0; begin < files.size(); begin += files_a_request) {
    // The start of each file, from which the server decides how it is sent.
    Json list = Json::array();
    const std::size_t end = std::min(files.size(), begin + files_a_request);
    for (std::size_t i = begin; i < end; ++i) {
      CW_TRY(const std::string sample, files[i].head(sample_size));
      list.push_back(
          {{"path", files[i].path}, {"sample", to_base64(sample)}, {"size", files[i].size}});
    }

    CW_TRY(const Json json,
           call(post_json(api("/preupload/" + percent_encoded(revision) +
                              (kind == CommitKind::new_pull_request ? "?create_pr=1" : "")),
                          {{"files", std::move(list)}}),
                what));
    std::map<std::string, const Json*> answers;
    if (const Json* answered = member(json, "files"); answered != nullptr && answered->is_array())
      for (const Json& item : *answered) answers[string_member(item, "path")] = &item;

    // Check each answer: which mode, and whether the bytes are there already.
    for (std::size_t i = begin; i < end; ++i) {
      const auto found = answers.find(files[i].path);
      if (found == answers.end()) return malformed(what, "it lacks " + files[i].path);
      const std::string mode = string_member(*found->second, "uploadMode");
      if (mode != "lfs" && mode != "regular") return malformed(what, "upload mode '" + mode + "'");
      const Json* ignored = member(*found->second, "shouldIgnore");
      if (ignored != nullptr && *ignored == true)
        return fail("hub_failed", "{}: {}'s .gitignore excludes {}", what, repo_, files[i].path);
      Upload upload{&files[i],
                    mode == "lfs" && files[i].size > 0 ? UploadMode::lfs : UploadMode::regular,
                    false};

      const std::string there = string_member(*found->second, "oid");
      if (upload.mode == UploadMode::lfs) {
        upload.is_unchanged = there == files[i].sha256;
      } else {
        if (files[i].size > max_regular)
          return fail("hub_too_large",
                      "{}: the server requires {} ({} MB) to be a regular file, not an LFS one",
                      what, files[i].path, files[i].size >> 20);
        CW_TRY(const std::string content, files[i].head(files[i].size));
        upload.is_unchanged = there == git_blob_id(content);
      }
      uploads.push_back(upload);
    }
  }
  return uploads;
}

Result<void> Hub::upload(const std::vector<Upload>& uploads, const std::string& revision,
                         const std::function<void(std::size_t, std::size_t)>& progress) {
  const std::string what = "asking where files are to be sent";
  std::map<std::string, const UploadFile*> by_hash;  // identical bytes are sent once
  for (const Upload& upload : uploads)
    if (upload.mode == UploadMode::lfs && !upload.is_unchanged)
      by_hash.emplace(upload.file->sha256, upload.file);
  std::vector<const UploadFile*> all;
  for (const auto& [hash, file] : by_hash) all.push_back(file);

  std::size_t done = 0;
  std::mutex mutex;  // guards `done` and `progress`
  for (std::size_t begin = 0; begin < all.size(); begin += files_a_request) {
    const std::size_t end = std::min(all.size(), begin + files_a_request);

    // Ask for the upload URLs.
    Json objects = Json::array();
    for (std::size_t i = begin; i < end; ++i)
      objects.push_back({{"oid", all[i]->sha256}, {"size", all[i]->size}});
    Json asked = {{"operation", "upload"},
                  {"transfers", {"basic", "multipart"}},
                  {"objects", std::move(objects)},
                  {"hash_algo", "sha256"}};
    if (!revision.empty()) asked["ref"] = {{"name", revision}};
    WebRequest request = post_json(page() + ".git/info/lfs/objects/batch", asked, lfs_type);
    request.headers.push_back(std::string("Accept: ") + lfs_type);

    CW_TRY(const Json json, call(request, what));
    const Json* answered = member(json, "objects");
    if (answered == nullptr || !answered->is_array()) return malformed(what, "it has no objects");
    std::map<std::string, const Json*> answers;
    for (const Json& item : *answered) answers[string_member(item, "oid")] = &item;

    // Several at once, each to its given URL.
    const auto send = [&](std::size_t i) -> Result<void> {
      const UploadFile& file = *all[begin + i];
      const auto found = answers.find(file.sha256);
      if (found == answers.end())
        return malformed(what, fmt::format("it lacks {} (SHA-256 {})", file.path, file.sha256));
      if (const Json* error = member(*found->second, "error"))
        return fail("hub_lfs", "{}: the server rejects it: {}", file.path,
                    string_member(*error, "message"));
      if (const Json* actions = member(*found->second, "actions"))
        if (actions->is_object() && actions->contains("upload"))
          CW_CHECK(upload_one(file, *actions));
      const std::lock_guard lock(mutex);
      progress(++done, all.size());
      return {};
    };

    CW_CHECK(run_on_threads(end - begin, upload_threads, send));
  }
  return {};
}

Result<void> Hub::upload_one(const UploadFile& file, const Json& actions) {
  const Json& upload = actions.at("upload");
  const std::string target = string_member(upload, "href");
  if (target.empty()) return malformed("sending " + file.path, "the upload has no URL");
  const Json* header = member(upload, "header");
  const Json* part_size = header == nullptr ? nullptr : member(*header, "chunk_size");

  // Large files are sent in parts, of a size that the server sets.
  if (part_size != nullptr) {
    const std::string text =
        part_size->is_string() ? part_size->get<std::string>() : dump(*part_size);
    const bool is_number = !text.empty() && text.size() < 19 &&
                           text.find_first_not_of("0123456789") == std::string::npos;
    const std::uint64_t size = is_number ? std::strtoull(text.c_str(), nullptr, 10) : 0;
    if (size == 0) return malformed("sending " + file.path, "its parts have no size");
    CW_CHECK(upload_parts(file, upload, size));
  } else {
    WebRequest request{.method = "PUT", .url = target, .body = file.content};
    if (!file.source.empty()) request.file = FilePart{file.source, 0, file.size};
    if (header != nullptr && header->is_object())
      for (const auto& [name, value] : header->items())
        if (value.is_string()) {
          std::string line = name + ": " + value.get<std::string>();
          if (std::ranges::any_of(line, [](unsigned char c) { return c < 0x20; }))
            return malformed("sending " + file.path, "a header contains control characters");
          request.headers.push_back(std::move(line));
        }
    CW_TRY(const WebResponse response, web_.send(request));
    CW_CHECK(check(response, "sending " + file.path));
  }

  const Json* verify = member(actions, "verify");
  if (verify == nullptr) return {};

  CW_TRY(const WebResponse response,
         web_.send(post_json(string_member(*verify, "href"),
                             {{"oid", file.sha256}, {"size", file.size}}, lfs_type)));
  return check(response, "having " + file.path + " verified");
}

// Parts are PUT to their own URLs, and the answers reported to `href` (lfs.py, "multipart").
Result<void> Hub::upload_parts(const UploadFile& file, const Json& upload,
                               std::uint64_t part_size) {
  const std::string what = "sending " + file.path;
  Json parts = Json::array();
  const Json& header = upload.at("header");
  const std::uint64_t count = (file.size + part_size - 1) / part_size;

  for (std::uint64_t i = 0; i < count; ++i) {
    std::string url = string_member(header, std::to_string(i + 1).c_str());
    // Parts may be numbered 01, 00001.
    for (std::size_t digits = 2; url.empty() && digits <= 5; ++digits)
      url = string_member(header, fmt::format("{:0{}}", i + 1, digits).c_str());
    if (url.empty())
      return malformed(what, fmt::format("there is no URL for part {} of {}", i + 1, count));

    const std::uint64_t offset = i * part_size, size = std::min(part_size, file.size - offset);
    WebRequest request{.method = "PUT", .url = url};
    if (file.source.empty())
      request.body = file.content.substr(offset, size);
    else
      request.file = FilePart{file.source, offset, size};
    CW_TRY(const WebResponse response, web_.send(request));
    CW_CHECK(check(response, what));

    const std::string tag = response.header("etag");
    if (tag.empty())
      return malformed(what, fmt::format("part {} was answered without an ETag", i + 1));
    parts.push_back({{"partNumber", i + 1}, {"etag", tag}});
  }

  // Have the parts put together.
  WebRequest request = post_json(string_member(upload, "href"),
                                 {{"oid", file.sha256}, {"parts", std::move(parts)}}, lfs_type);
  request.headers.push_back(std::string("Accept: ") + lfs_type);
  CW_TRY(const WebResponse response, web_.send(request));
  return check(response, what);
}

Result<HubCommit> Hub::commit(const std::vector<Upload>& uploads, const std::string& title,
                              const std::string& description, const std::string& revision,
                              const std::string& parent, CommitKind kind) {
  const bool opens_pull_request = kind == CommitKind::new_pull_request;
  const std::string what =
      opens_pull_request ? "opening the pull request" : "committing to " + revision;

  // The header, then one line per file: blobs by hash, texts inline.
  Json header = {{"summary", title}, {"description", description}};
  if (!parent.empty()) header["parentCommit"] = parent;
  std::string body = dump({{"key", "header"}, {"value", std::move(header)}}) + "\n";

  for (const Upload& upload : uploads) {
    if (upload.is_unchanged) continue;
    const UploadFile& file = *upload.file;
    Json value;
    if (upload.mode == UploadMode::lfs) {
      value = {{"path", file.path}, {"algo", "sha256"}, {"oid", file.sha256}, {"size", file.size}};
    } else {
      CW_TRY(const std::string content, file.head(file.size));
      value = {{"content", to_base64(content)}, {"path", file.path}, {"encoding", "base64"}};
    }
    body += dump({{"key", upload.mode == UploadMode::lfs ? "lfsFile" : "file"},
                  {"value", std::move(value)}}) +
            "\n";
  }

  CW_TRY(const Json json, call({.method = "POST",
                                .url = api("/commit/" + percent_encoded(revision) +
                                           (opens_pull_request ? "?create_pr=1" : "")),
                                .headers = {"Content-Type: application/x-ndjson"},
                                .body = std::move(body),
                                .is_repeatable = false,
                                .is_interruptible = false},
                               what));

  HubCommit result{string_member(json, "commitOid"), string_member(json, "commitUrl"),
                   std::nullopt};
  if (result.id.empty()) return malformed(what, "it names no commit");
  if (opens_pull_request) {
    const std::string url = string_member(json, "pullRequestUrl");
    const std::uint64_t number = std::strtoull(url.substr(url.rfind('/') + 1).c_str(), nullptr, 10);
    if (number == 0) return malformed(what, "it names no pull request");
    result.pull_request = PullRequest{number, title, url};
  }
  return result;
}

}  // namespace cw

// Recordings of our own recorder as a Capture.
//
// A file is read once from start to end, and from there on when it has grown, in chunks of whole
// frames. Chunks are decoded ahead by other threads and then taken in order: what is known of a
// file (its functions, call signatures and values) grows as they are taken. Of a call nothing stays
// but its place, where it can be read again; so memory depends on how many signatures there are,
// not on how many calls. A truncated frame at the end comes from a process that was killed or is
// still writing.
//
// Files are untrusted: even data with a valid checksum is validated, and memory stays within a
// small multiple of the chunks' size.
#pragma once

#include <deque>
#include <filesystem>
#include <list>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <span>
#include <unordered_map>
#include <vector>

#include "base/file.h"
#include "capture/capture.h"
#include "capture/recorder/call_groups.h"
#include "capture/recorder/record.h"

namespace cw::recording {

class RecordingCapture final : public Capture {
 public:
  /// What is known of small files that were read is forgotten beyond this; such a file is read once
  /// more when one of its calls is.
  static constexpr std::size_t max_table_bytes = 8 << 20;
  /// Recordings, and folders of them, as they are now. Error codes: "not_found", "unreadable",
  /// "no_recordings".
  static Result<std::unique_ptr<RecordingCapture>> open(
      const std::vector<std::filesystem::path>& roots, std::size_t max_tables = max_table_bytes);
  /// A folder that is still being recorded into: look() finds what is there. Error codes:
  /// "not_found", "unreadable".
  static Result<std::unique_ptr<RecordingCapture>> follow(const std::filesystem::path& folder);
  RecordingCapture();
  ~RecordingCapture() override;
  /// Whether a path is a recording or a folder that holds one.
  static bool is_recording(const std::filesystem::path& path);
  /// The names of the recordings in a folder, in order. Error codes: those of visit_directory().
  static Result<std::set<std::string>> names_in(const std::filesystem::path& folder);

  /// Finds what was written since the last time, for fetch() to read. Error code "unreadable" (for
  /// a folder; an unreadable file is a defect).
  Result<void> look();
  /// Total size of all files in bytes, as of the last look().
  std::uint64_t disk() const;
  /// The writers have exited: what is truncated stays so, and becomes a defect once all was read.
  void finish() { is_finishing_ = true; }

  bool fetch() override;
  void forget(std::size_t before) override;
  std::size_t size() const override { return size_; }
  Sighting sighting(std::size_t index) const override;
  const std::string& function_name(std::uint32_t number) const override {
    return functions_[number]->name;
  }
  bool knows_identities() const override { return true; }
  CallPlace place(std::size_t index) const override { return place_of(find(index)); }
  Result<Call> read(std::size_t index) const override;
  Result<Call> read_again(const CallPlace& place) const override;
  std::string location(const CallPlace& place) const override;
  std::unique_ptr<Capture> from_start() const override;
  void skip(const WrapperId& process) override { files_[process.folder].is_given_up = true; }
  const std::vector<CaptureDefect>& defects() const override { return defects_; }
  std::string id() const override;
  const char* kind() const override { return "recorder"; }

 private:
  struct Place {
    std::uint64_t offset = 0;  ///< of the payload in the file
    std::uint32_t size = 0;
  };
  struct HookedFunction {
    std::string name, module, version;
    std::shared_ptr<const Signature> signature;
  };
  struct Header {
    std::string host, boot;
    std::uint64_t process = 0, started = 0;
  };
  /// What call signatures have in common that differ in extents of lists alone.
  struct CallForm {
    std::uint32_t function = 0;        ///< in functions_
    std::vector<std::uint32_t> lists;  ///< Tensor::entry
    bool operator==(const CallForm&) const = default;
  };
  struct CallSignature {
    Place place;
    std::uint32_t first_extent = 0;  ///< of the form's lists, in File::extents
    /// With its identity, of function and arguments.
    const std::pair<const Hash128, CallForm>* form = nullptr;

    std::uint32_t function() const { return form->second.function; }
  };
  /// What a file's calls refer to.
  struct Tables {
    std::map<std::uint32_t, std::uint32_t> functions;  ///< the file's numbers: functions_
    std::unordered_map<std::uint32_t, CallSignature> signatures;
    std::vector<std::int64_t> extents;  ///< unknown_extent: calls tell it
    std::unordered_map<Hash128, Place> values;

    std::size_t memory() const;  ///< about
  };
  struct File : Tables {
    std::filesystem::path path;
    FileDescriptor descriptor;
    std::uint64_t size = 0;    ///< as of the last look()
    std::uint64_t offset = 0;  ///< cut into chunks up to here
    std::optional<Header> header;
    std::size_t users = 0;      ///< chunks and blocks that need its tables
    bool is_read = false;       ///< none will come
    bool is_forgotten = false;  ///< its tables are
    bool is_given_up = false;   ///< no more of it is read
    bool is_dropped = false;    ///< and what was read ahead of it is not taken
    bool is_finished = false;
    bool has_ended = false;  ///< cleanly, or what is missing is known
    bool is_idle = false;    ///< there had been no calls for a while at its last record
  };
  struct Chunk;

  struct Entry {
    std::uint64_t window;  ///< position of its record in the file
    const CallSignature* signature;
    std::uint32_t group;        ///< in Block::groups
    bool is_raised = false;     ///< the calls of the group that did not return
    bool lacks_values = false;  ///< of some tensor
    Hash128 identity;
  };
  /// The entries of one chunk.
  struct Block {
    std::size_t first = 0;  ///< number of the first
    std::uint32_t file = 0;
    CallGroups groups;
    std::vector<Entry> entries;
  };
  class Values;

  /// Whether its process is on this machine and has not exited.
  static bool is_alive(const File& file);
  Result<void> find_files();
  Result<void> add_file(const std::filesystem::path& path);

  // Reading ahead.
  std::unique_ptr<Chunk> next_chunk();
  std::unique_ptr<Chunk> cut(std::uint32_t number);
  void read_ahead();
  void stop_using(std::uint32_t file);
  void forget_tables();
  static void decode(Chunk& chunk, const File& file);
  static void decode_frames(Chunk& chunk, const File& file);
  void add_defects_of_ends();

  // What a chunk says, in order.
  void take(Chunk& chunk);
  void take_payload(Block& block, std::string_view payload, std::uint64_t offset);
  void take_values(File& file, std::string_view payload, const ValuesRecord& values,
                   std::uint64_t offset);
  void take_record(Block& block, std::string_view payload, std::uint64_t offset);
  void take_header(File& file, const CborItem& record);
  void take_function(File& file, const CborItem& record);
  void take_signature(File& file, const CborItem& record, std::uint64_t offset);
  /// Null if it cannot be told from another one.
  const std::pair<const Hash128, CallForm>* form_of(std::uint32_t function,
                                                    std::string_view arguments,
                                                    std::span<const ListExtent> lists);
  void take_calls(Block& block, std::string_view payload, std::uint64_t offset);
  void take_groups(Block& block, std::size_t begin, std::size_t end, std::uint64_t offset);
  void take_end(File& file, const CborItem& record);
  void take_killed(File& file, const CborItem& record);
  void take_exposed(File& file);
  void add_calls_over_budget(File& file, const CborItem& record);
  static void identify(const File& file, const CallGroup& group, const CallGroups& groups,
                       Entry& entry);
  std::shared_ptr<const Signature> printed_signature(const File& file, std::string_view text);
  /// One entry per file and code; the first message is kept.
  void add_defect(const File& file, std::string code, std::string message, std::uint64_t count = 1);

  struct Found {
    const Block& block;
    const Entry& entry;
    const CallGroup& group() const { return block.groups.groups[entry.group]; }
  };
  Found find(std::size_t index) const;
  static CallPlace place_of(const Found& found);
  WrapperId process_of(std::uint32_t file) const;
  /// Where they are, if they are kept and precede this position in the file, as the calls' record
  /// does not.
  static std::optional<Place> place_of_values(const File& file, const CallValues& values,
                                              std::uint64_t before);
  /// Whether the length of each list is known.
  static bool has_lengths(const File& file, const CallSignature& signature, const CallGroup& group,
                          const CallGroups& groups);
  static std::int64_t extent_of(const File& file, const CallSignature& signature, std::size_t list,
                                const CallValues& values);
  /// Adds what is known of the lengths of tensors whose values may not be there; the call has its
  /// place.
  static void tell_counts(const File& file, const CallSignature& signature, const CallGroup& group,
                          const CallGroups& groups, Call& call);
  /// A call without content.
  Call call_of(std::uint32_t file, const CallGroup& group, const CallGroups& groups,
               bool is_raised) const;
  Result<std::shared_ptr<const CallContent>> read_content(const CallPlace& place,
                                                          const CallSignature& signature,
                                                          const CallGroup& group,
                                                          const CallGroups& groups) const;
  static Result<std::string> read_place(const File& file, const Place& place);
  /// The same file, read as a whole.
  std::shared_ptr<const RecordingCapture> reread(std::uint32_t file) const;
  void add_same(const File& file);

  std::vector<std::filesystem::path> roots_;
  std::deque<File> files_;
  std::set<std::string> known_;               ///< paths found, including unreadable ones
  std::uint32_t next_file_ = 0;               ///< where the next chunk is looked for
  std::deque<std::unique_ptr<Chunk>> ahead_;  ///< being decoded, in order
  bool follows_ = false, is_finishing_ = false;
  std::size_t chunk_size_;
  // Memory that is used again: a page's first use costs more than decoding what is read into it.
  std::vector<std::string> spare_bytes_;
  std::vector<CallGroups> spare_groups_;

  std::deque<Block> blocks_;  ///< except forgotten ones
  std::size_t size_ = 0;
  std::uint64_t calls_ = 0;  ///< in all entries, forgotten ones included
  std::deque<const HookedFunction*> functions_;
  std::map<Hash128, std::pair<std::uint32_t, HookedFunction>> function_of_;  ///< by identity
  std::unordered_map<Hash128, CallForm> forms_;                              ///< by identity
  std::vector<CaptureDefect> defects_;
  std::map<std::pair<const File*, std::string>, std::size_t> defect_of_;  ///< by file and code
  std::map<std::string, std::shared_ptr<const Signature>, std::less<>> printed_signatures_;
  std::size_t parameters_ = 0;  ///< of all signatures

  /// Contents that were read, by identity; shared by several threads.
  struct Contents {
    std::mutex mutex;
    std::unordered_map<Hash128, Result<std::shared_ptr<const CallContent>>> known;
    std::size_t bytes = 0;
  };
  std::unique_ptr<Contents> contents_ = std::make_unique<Contents>();

  std::deque<std::uint32_t> read_;  ///< small files whose tables are still there, oldest first
  std::size_t table_bytes_ = 0, max_tables_ = max_table_bytes;
  /// Forgotten files that were read once more, the last used first.
  struct Reread {
    std::mutex mutex;
    std::list<std::pair<std::uint32_t, std::shared_ptr<const RecordingCapture>>> files;
  };
  std::unique_ptr<Reread> reread_ = std::make_unique<Reread>();
};

}  // namespace cw::recording

#include <fstream>

#include <fcntl.h>
#include <zip.h>

#include "capture/level10/tensor_file.h"
#include "support/fixture.h"

namespace cw::level10 {
namespace {

using namespace std::string_literals;
using testing::TemporaryFolder;

struct Member {
  std::string name, content;
  bool compressed = false;
};

std::string pickle(const std::string& shape, const std::string& stride,
                   const std::string& offset = "K\x00"s) {
  return "\x80\x02}"s + "X\x01\x00\x00\x00"s + "x"s + "ctorch._utils\n_rebuild_tensor_v2\n"s +
         "((X\x07\x00\x00\x00"s + "storage"s + "ctorch\nIntStorage\n"s + "X\x01\x00\x00\x00"s +
         "0"s + "X\x03\x00\x00\x00"s + "cpu"s + "K\x06tQ"s + offset + shape + stride + "\x89"s +
         "ccollections\nOrderedDict\n)RtRs."s;
}

void write_archive(const std::filesystem::path& path, const std::vector<Member>& members) {
  int error = 0;
  zip_t* const archive = zip_open(path.c_str(), ZIP_CREATE | ZIP_TRUNCATE, &error);
  ASSERT_NE(archive, nullptr);
  for (const Member& member : members) {
    zip_source_t* const source =
        zip_source_buffer(archive, member.content.data(), member.content.size(), 0);
    const zip_int64_t index = zip_file_add(archive, member.name.c_str(), source, ZIP_FL_OVERWRITE);
    zip_set_file_compression(archive, static_cast<zip_uint64_t>(index),
                             member.compressed ? ZIP_CM_DEFLATE : ZIP_CM_STORE, 0);
  }
  ASSERT_EQ(zip_close(archive), 0);
}

std::string storage() {
  const DenseTensor tensor =
      from_integers(DType::int32, {6}, std::vector<std::int64_t>{0, 1, 2, 3, 4, 5});
  return tensor.bytes;
}

class TorchArchive : public ::testing::Test {
 protected:
  Result<std::shared_ptr<const TensorFile>> open(const std::vector<Member>& members) {
    write_archive(folder_ / "inputs.pt", members);
    return open_torch_archive(AT_FDCWD, folder_ / "inputs.pt", folder_ / "inputs.pt");
  }
  std::vector<std::int64_t> values(const std::string& program, std::uint64_t count) {
    const auto file = open({{"inputs/data.pkl", program}, {"inputs/data/0", storage()}});
    if (!file) return ADD_FAILURE() << file.error().message, std::vector<std::int64_t>{};
    const auto bytes = (*file)->read(0, count);
    if (!bytes) return ADD_FAILURE() << bytes.error().message, std::vector<std::int64_t>{};
    return integers({DType::int32, {}, *bytes});
  }
  TemporaryFolder folder_;
};

using Values = std::vector<std::int64_t>;

TEST_F(TorchArchive, ContiguousAndStridedViews) {
  EXPECT_EQ(values(pickle("K\x06\x85"s, "K\x01\x85"s), 6), (Values{0, 1, 2, 3, 4, 5}));
  EXPECT_EQ(values(pickle("K\x06\x85"s, "K\x01\x85"s), 2), (Values{0, 1}));
  EXPECT_EQ(values(pickle("K\x02K\x03\x86"s, "K\x01K\x02\x86"s), 6),
            (Values{0, 2, 4, 1, 3, 5}));  // a transpose
  EXPECT_EQ(values(pickle("K\x02K\x03\x86"s, "K\x01K\x02\x86"s), 4), (Values{0, 2, 4, 1}));
  EXPECT_EQ(values(pickle("K\x03\x85"s, "K\x02\x85"s, "K\x01"s), 3),
            (Values{1, 3, 5}));  // every second, from 1
  EXPECT_EQ(values(pickle("K\x03K\x02\x86"s, "K\x00K\x01\x86"s), 6),
            (Values{0, 1, 0, 1, 0, 1}));  // expanded
}

TEST_F(TorchArchive, ViewsThatLeaveTheirStorage) {
  for (
      const std::string& program :
      {pickle("K\x07\x85"s, "K\x01\x85"s), pickle("K\x06\x85"s, "K\x01\x85"s, "K\x01"s),
       pickle("K\x02\x85"s, "K\x06\x85"s),
       pickle(
           "K\x02K\x02\x86"s,
           "\x8a\x08\xff\xff\xff\xff\xff\xff\xff\x7f\x8a\x08\xff\xff\xff\xff\xff\xff\xff\x7f\x86"s)})
    EXPECT_EQ(open({{"inputs/data.pkl", program}, {"inputs/data/0", storage()}}).error().code,
              "torch_archive_malformed");
}

TEST_F(TorchArchive, CompressedMembersAreRefused) {
  EXPECT_EQ(open({{"inputs/data.pkl", pickle("K\x06\x85"s, "K\x01\x85"s)},
                  {"inputs/data/0", std::string(std::size_t{64} << 20, '\0'), true}})
                .error()
                .code,
            "torch_archive_refused");
}

TEST_F(TorchArchive, MembersAreNeverUnpackedToTheirPath) {
  const auto file = open({{"inputs/data.pkl", pickle("K\x06\x85"s, "K\x01\x85"s)},
                          {"inputs/data/0", storage()},
                          {"../../escaped", "x"},
                          {"/etc/escaped", "x"}});
  EXPECT_TRUE(file);
  EXPECT_FALSE(std::filesystem::exists(folder_.path().parent_path() / "escaped"));
}

TEST_F(TorchArchive, DamagedArchives) {
  EXPECT_EQ(open({{"inputs/data/0", storage()}}).error().code, "torch_archive_malformed");
  EXPECT_EQ(open({{"inputs/data.pkl", pickle("K\x06\x85"s, "K\x01\x85"s)}}).error().code,
            "torch_archive_malformed");
  EXPECT_EQ(open({{"inputs/data.pkl", pickle("K\x06\x85"s, "K\x01\x85"s)},
                  {"inputs/data/0", storage()},
                  {"inputs/byteorder", "big"}})
                .error()
                .code,
            "torch_archive_malformed");
  write_archive(folder_ / "inputs.pt", {{"inputs/data.pkl", pickle("K\x06\x85"s, "K\x01\x85"s)},
                                        {"inputs/data/0", storage()}});
  const std::string whole = testing::read_text(folder_ / "inputs.pt");
  for (std::size_t size = 0; size < whole.size(); size += 7) {
    testing::write_text(folder_ / "cut.pt", whole.substr(0, size));
    EXPECT_FALSE(open_torch_archive(AT_FDCWD, folder_ / "cut.pt", "cut.pt")) << size;
  }
}

}  // namespace
}  // namespace cw::level10

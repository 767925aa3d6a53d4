#include "base/file.h"

#include <fcntl.h>
#include <sys/stat.h>

#include "base/console.h"
#include "base/hash.h"
#include "support/fixture.h"

namespace cw {
namespace {

TEST(WriteAtomically, ReplacesWhole) {
  testing::TemporaryFolder folder;
  ASSERT_TRUE(write_atomically(folder / "f", "one"));
  ASSERT_TRUE(write_atomically(folder / "f", "two and more"));
  EXPECT_EQ(testing::tree(folder.path()),
            (std::map<std::string, std::string>{{"f", "two and more"}}));
}

TEST(WriteAtomically, LeavesNothingBehindWhenItCannot) {
  testing::TemporaryFolder folder;
  EXPECT_EQ(write_atomically(folder / "missing/f", "x").error().code, "not_found");
  std::filesystem::create_directory(folder / "d");
  EXPECT_FALSE(write_atomically(folder / "d", "x"));
  EXPECT_TRUE(testing::tree(folder.path()).empty());
}

TEST(ReadFile, LimitsAndPadding) {
  testing::TemporaryFolder folder;
  testing::write_text(folder / "f", "12345");
  EXPECT_EQ(*read_file(AT_FDCWD, folder / "f", 5), "12345");
  EXPECT_EQ(read_file(AT_FDCWD, folder / "f", 4).error().code, "too_large");
  EXPECT_EQ(read_file(AT_FDCWD, folder / "g", 4).error().code, "not_found");
  EXPECT_EQ(read_file(AT_FDCWD, folder.path(), 4).error().code, "unreadable");
  std::string buffer(100, 'x');
  EXPECT_EQ(*read_file_into(AT_FDCWD, folder / "f", 5, 8, buffer), "12345");
  EXPECT_EQ(buffer.substr(5, 8), std::string(8, '\0'));
}

TEST(ReadFile, AFifoDoesNotHang) {
  testing::TemporaryFolder folder;
  ASSERT_EQ(::mkfifo((folder / "fifo").c_str(), 0600), 0);
  EXPECT_EQ(read_file(AT_FDCWD, folder / "fifo", 10).error().code, "unreadable");
}

mode_t mode_of(const std::filesystem::path& path) {
  struct stat status {};
  ::stat(path.c_str(), &status);
  return status.st_mode & 07777;
}

TEST(Private, WhateverTheUmask) {
  for (const mode_t mask : {0, 022, 077, 0777}) {
    testing::TemporaryFolder folder;
    const mode_t before = ::umask(mask);
    const auto made = ensure_private_directory(folder / "a/b");
    const auto written =
        write_atomically(folder / "a/b/f", "x", Durability::process, Access::owner);
    ::umask(before);
    ASSERT_TRUE(made && written) << mask;
    EXPECT_EQ(mode_of(folder / "a"), 0700u) << mask;
    EXPECT_EQ(mode_of(folder / "a/b"), 0700u) << mask;
    EXPECT_EQ(mode_of(folder / "a/b/f"), 0600u) << mask;
  }
}

TEST(Private, WhatIsThere) {
  testing::TemporaryFolder folder;
  std::filesystem::create_directory(folder / "mine");
  ::chmod((folder / "mine").c_str(), 0777);
  ASSERT_TRUE(make_private_directories(folder / "mine/below"));
  EXPECT_EQ(mode_of(folder / "mine"), 0777u) << "what is above is left as it is";
  ASSERT_TRUE(ensure_private_directory(folder / "mine"));
  EXPECT_EQ(mode_of(folder / "mine"), 0700u);
  testing::write_text(folder / "file", "x");
  EXPECT_FALSE(ensure_private_directory(folder / "file"));
  if (::geteuid() != 0) return;
  ASSERT_EQ(::chown((folder / "mine").c_str(), 12345, 12345), 0);
  EXPECT_EQ(ensure_private_directory(folder / "mine").error().code, "not_private");
  std::filesystem::create_directory_symlink(folder / "mine", folder / "link");
  EXPECT_EQ(ensure_private_directory(folder / "link").error().code, "not_private");
}

TEST(Hash, KnownValues) {
  EXPECT_EQ(sha256_hex("abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  // python3 -c "import uuid; print(uuid.uuid5(uuid.uuid5(uuid.NAMESPACE_DNS, 'collect-workloads'),
  // 'x'))"
  EXPECT_EQ(uuid_v5("x"), "4669dee2-a879-564e-b95b-a675e3a89d5d");
}

TEST(Console, WrapAndSeparators) {
  EXPECT_EQ(wrap("aa bb cc", 6, "> "), "> aa\n> bb\n> cc\n");
  EXPECT_EQ(wrap("aa bb", 10, ""), "aa bb\n");
  EXPECT_EQ(wrap("word-longer-than-the-line x", 5, ""), "word-longer-than-the-line\nx\n");
  EXPECT_EQ(with_separators(0), "0");
  EXPECT_EQ(with_separators(1234567), "1,234,567");
}

TEST(Console, NothingOfOthersReachesTheTerminalsControls) {
  for (const char* text :
       {"", "plain, of\ntwo lines", "\xc2\xa0", "\xdf\xbf", "\xe0\xa0\x80", "\xed\x9f\xbf",
        "\xee\x80\x80", "\xf0\x90\x80\x80", "\xf4\x8f\xbf\xbf", "naïve … 模型"})
    EXPECT_EQ(for_terminal(text), text);
  EXPECT_EQ(for_terminal("\x1b[31m\a\t\r\x7f"), "?[31m????");
  const std::string control_sequence = std::string("\xc2\x9b") + "31m";
  EXPECT_EQ(for_terminal(control_sequence), "??31m");
  EXPECT_EQ(
      for_terminal("\xff\x80 \xc0\xaf \xe0\x9f\xbf \xed\xa0\x80 \xf0\x8f\xbf\xbf \xf4\x90\x80\x80"),
      "?? ?? ??? ??? ???? ????");
  EXPECT_EQ(for_terminal("cut \xe2\x82"), "cut ??");
  EXPECT_EQ(for_terminal(std::string_view("\0a", 2)), "?a");
}

}  // namespace
}  // namespace cw

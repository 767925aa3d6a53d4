// The floor under sanitize: opens and reads the same metadata and tensor headers, and does nothing
// with them. In the order of their names, as any reader must that pairs runs with the plans before
// them: the kernel is faster by a third in whichever order the caches were filled.
//
//   bench_floor DIR [THREADS]
#include <algorithm>
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <thread>
#include <vector>

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

namespace {

std::size_t read_front(int directory, const std::string& path, std::size_t limit,
                       std::vector<char>& buffer) {
  const int file = ::openat(directory, path.c_str(), O_RDONLY | O_CLOEXEC);
  if (file < 0) return 0;
  struct stat status;
  ::fstat(file, &status);
  buffer.resize(std::min(static_cast<std::size_t>(status.st_size), limit));
  const ssize_t got = ::pread(file, buffer.data(), buffer.size(), 0);
  ::close(file);
  return got > 0 ? static_cast<std::size_t>(got) : 0;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 2) return std::fputs("usage: bench_floor DIR [THREADS]\n", stderr), 2;
  const int directory = ::open(argv[1], O_RDONLY | O_DIRECTORY);
  DIR* const listing = ::opendir(argv[1]);
  if (directory < 0 || listing == nullptr) return std::perror(argv[1]), 1;
  std::vector<std::string> names;
  while (const dirent* entry = ::readdir(listing))
    if (entry->d_type == DT_DIR && entry->d_name[0] != '.') names.emplace_back(entry->d_name);
  ::closedir(listing);
  std::ranges::sort(names);

  std::atomic<std::size_t> next = 0, total = 0;
  const auto work = [&] {
    std::vector<char> buffer;
    std::size_t bytes = 0;
    for (std::size_t i = next++; i < names.size(); i = next++) {
      bytes += read_front(directory, names[i] + "/metadata.jsonl", std::size_t{1} << 30, buffer);
      bytes += read_front(directory, names[i] + "/inputs.safetensors", 8192, buffer);
    }
    total += bytes;
  };
  std::vector<std::thread> threads;
  for (int i = 1; i < (argc > 2 ? std::atoi(argv[2]) : 1); ++i) threads.emplace_back(work);
  work();
  for (std::thread& thread : threads) thread.join();
  std::printf("%zu calls, %zu bytes\n", names.size(), total.load());
}

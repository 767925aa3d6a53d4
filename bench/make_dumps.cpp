// Makes dump sets for bench/run: the calls of a Llama-3.1-8B under load, as SGLang makes them.
//
//   bench_make_dumps DIR CALLS [LAYERS] [POOL]
//
// Forward steps of mixed batch sizes: a plan, then for each layer a run and a norm, now and then a
// prefill and a sampling call. Every step has index tensors of its own, so that no two steps are
// the same workload. KV pools are holes in sparse files: only what is read takes disk.
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <random>

#include "simulated/dump_writer.h"

namespace {

using namespace cw::simulated;

std::vector<std::int64_t> page_table(std::mt19937& random, std::int64_t batch, std::int64_t pool,
                                     std::vector<std::int64_t>& indices) {
  std::vector<std::int64_t> indptr{0};
  const std::int64_t max_length =
      std::max<std::int64_t>(1, std::min<std::int64_t>(400, pool / batch / 2));
  for (std::int64_t i = 0; i < batch; ++i) {
    const auto length = std::uniform_int_distribution<std::int64_t>(1, max_length)(random);
    const auto begin = std::uniform_int_distribution<std::int64_t>(0, pool - length - 1)(random);
    for (std::int64_t page = 0; page < length; ++page) indices.push_back(begin + page);
    indptr.push_back(indptr.back() + length);
  }
  return indptr;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 3) return std::fputs("usage: bench_make_dumps DIR CALLS [LAYERS] [POOL]\n", stderr), 2;
  const long calls = std::atol(argv[2]);
  const long layers = argc > 3 ? std::atol(argv[3]) : 32;
  const Heads heads{.pool = argc > 4 ? std::atol(argv[4]) : 16384};
  std::mt19937 random(1);
  DumpWriter writer(argv[1], 4242);
  long written = 0;
  const auto write = [&](const DumpCall& call) {
    if (written++ < calls) writer.write(call);
    writer.tick();
  };
  for (long step = 0; written < calls; ++step) {
    const std::int64_t batch = std::int64_t{1} << std::uniform_int_distribution<int>(0, 6)(random);
    if (step % 16 == 7) {
      std::vector<std::int64_t> ignored;
      const auto indptr = page_table(random, std::min<std::int64_t>(batch, 8), heads.pool, ignored);
      write(ragged_plan(0x7000, indptr));
      for (long layer = 0; layer < layers; ++layer) write(ragged_run(0x7000, indptr.back()));
      continue;
    }
    std::vector<std::int64_t> indices;
    const auto indptr = page_table(random, batch, heads.pool, indices);
    write(decode_plan(0x8000, indptr, indices, heads));
    for (long layer = 0; layer < layers; ++layer) {
      write(decode_run(0x8000, batch, heads));
      write(rmsnorm(batch));
    }
    if (step % 8 == 3)
      write(sampling(std::vector<std::int64_t>(static_cast<std::size_t>(batch), 50),
                     std::vector<float>(static_cast<std::size_t>(batch), 0.9f)));
  }
}

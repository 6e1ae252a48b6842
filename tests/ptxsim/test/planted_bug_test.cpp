// Bugs planted in a pipelined GEMM: each class must be caught, and the kernel without them must pass under every
// schedule. Then the mutants of the same kernel, and what the profile says of it.
#include <random>

#include "tests/catch.h"
#include "tests/ptxsim/float_formats.h"
#include "tests/ptxsim/mutation.h"
#include "tests/ptxsim/report.h"
#include "tests/ptxsim/test/gemm_ptx.h"
#include "tests/ptxsim/test/snippet.h"

using namespace inferd::ptxsim;
using namespace inferd::ptxsim::test;

namespace {

// The tiles begin at shared offset 0, since nothing else is declared.
struct Gemm {
  unsigned m, k;
};
const std::vector<Gemm> kShapes = {{1, 16}, {15, 32}, {17, 48}, {25, 80}, {31, 16}, {32, 64}};

// Whether the kernel's results differ from fp64; throws Violation.
bool wrong(Module& module, const Gemm& g, const LaunchOptions& options, std::vector<float>* out = nullptr) {
  std::mt19937 random(5);
  const auto values = [&](size_t n) {
    std::vector<uint16_t> v(n);
    for (uint16_t& x : v) x = float_to_f16(float(int(random() % 31) - 15) / 8);
    return v;
  };
  const std::vector<uint16_t> a = values(g.m * g.k), b = values(8 * g.k);
  Memory memory;
  const uint64_t da = memory.allocate(a.size() * 2, "A"), db = memory.allocate(b.size() * 2, "B"),
                 dc = memory.allocate(g.m * 32, "C");
  memory.write(da, a.data(), a.size() * 2);
  memory.write(db, b.data(), b.size() * 2);
  launch(module, "k", {}, {64, 1, 1}, 0, pack_parameters(dc, da, db, uint64_t{g.k} << 32 | g.m), memory, options);
  std::vector<float> c(g.m * 8);
  memory.read(dc, c.data(), c.size() * 4);
  if (out != nullptr) *out = c;
  for (unsigned i = 0; i < g.m; ++i) {
    for (unsigned j = 0; j < 8; ++j) {
      double want = 0;
      for (unsigned k = 0; k < g.k; ++k) want += double(f16_to_float(a[i * g.k + k])) * f16_to_float(b[j * g.k + k]);
      if (!(c[i * 8 + j] == float(want))) return true;
    }
  }
  return false;
}

// All shapes under all schedules: true if anything is noticed.
bool caught(Module& module, Profile* profile = nullptr) {
  for (const CopyTiming timing : {CopyTiming::late, CopyTiming::early}) {
    for (int order = 0; order < 3; ++order) {
      LaunchOptions options;
      options.cp_async = timing;
      options.warp_order = order;
      options.profile = profile;
      options.max_warp_instructions = 100000;
      for (const Gemm& g : kShapes) {
        try {
          if (wrong(module, g, options)) return true;
        } catch (const Violation&) {
          return true;
        }
      }
    }
  }
  return false;
}

std::string replaced(std::string text, const std::string& from, const std::string& to, int occurrence = 0) {
  size_t at = text.find(from);
  for (; occurrence > 0 && at != std::string::npos; --occurrence) at = text.find(from, at + 1);
  if (at == std::string::npos) throw std::runtime_error("the kernel has no " + from);
  return text.replace(at, from.size(), to);
}

}  // namespace

TEST_CASE("the GEMM without bugs passes under every schedule, with equal bits") {
  Module module = Module::parse(kernel_text(kGemmBody, kGemmShared));
  REQUIRE_FALSE(caught(module));
  std::vector<float> first, again;
  wrong(module, {25, 80}, {}, &first);
  LaunchOptions options;
  options.cp_async = CopyTiming::early;
  options.warp_order = 2;
  options.checked = false;
  wrong(module, {25, 80}, options, &again);
  REQUIRE(first == again);
}

TEST_CASE("every planted bug is caught") {
  struct Bug {
    std::string what, from, to;
    int occurrence = 0;
  };
  const Bug bugs[] = {
      {"no barrier between copy and use", "bar.sync 0;", ""},
      {"no barrier before the buffer is overwritten", "bar.sync 0;", "", 1},
      {"no barrier before the epilogue reads", "bar.sync 0;", "", 2},
      {"no wait for the copies", "cp.async.wait_group 1;", ""},
      {"wait for one group too few", "cp.async.wait_group 1;", "cp.async.wait_group 2;"},
      {"B fragments swapped", "{%fb0, %fb1}, {%fc0", "{%fb1, %fb0}, {%fc0"},
      {"A fragments in the wrong order", "{%fa0, %fa1, %fa2, %fa3}, {%fb0", "{%fa0, %fa2, %fa1, %fa3}, {%fb0"},
      {"B loaded transposed", "m8n8.x2.shared", "m8n8.x2.trans.shared"},
      {"rows past the end are stored", "setp.lt.u32 %p, %row, %M", "setp.le.u32 %p, %row, %M"},
      {"rows past the end are copied", "selp.u32 %asize, 16, 0, %inrow", "mov.u32 %asize, 16"},
      {"K loop one step short", "setp.lt.u32 %more, %kt, %K;", "add.u32 %x, %kt, 16; setp.lt.u32 %more, %x, %K;"},
      {"half of C not stored", "st.shared.v2.f32 [%x+2816], {%fc2, %fc3};", ""},
      {"the buffer is never switched", "mov.u32 %buf, %other;", ""},
  };
  for (const Bug& bug : bugs) {
    INFO(bug.what);
    Module module = Module::parse(kernel_text(replaced(kGemmBody, bug.from, bug.to, bug.occurrence), kGemmShared));
    REQUIRE(caught(module));
  }
}

TEST_CASE("mutants of the GEMM die, and the list of survivors is exact") {
  Module module = Module::parse(kernel_text(kGemmBody, kGemmShared));
  Profile profile;
  REQUIRE_FALSE(caught(module, &profile));
  const std::vector<Mutation> all = list_mutations(module.kernel("k"), profile);
  const MutationReport report = run_mutations(module, all, [&](const Mutation&) { return caught(module); });
  REQUIRE(report.tried >= 12);
  // The addend there is the address of `tiles`, which lies at offset 0.
  const ReviewedSurvivors reviewed = ReviewedSurvivors::parse("k|addend dropped|mad.lo.u32 #0  # adds offset 0\n");
  REQUIRE(reviewed.unexpected(report).empty());
  const auto of_k = [](const std::string& pattern) { return is_named("k", pattern); };
  REQUIRE(reviewed.stale(report, of_k).empty());
  REQUIRE_FALSE(caught(module));  // the module is as before

  const ReviewedSurvivors none = ReviewedSurvivors::parse("# nothing\n");
  REQUIRE(none.unexpected(report) == std::vector<std::string>{"k|addend dropped|mad.lo.u32 #0"});
  const ReviewedSurvivors stale = ReviewedSurvivors::parse("k|store dropped|nowhere  # gone\n");
  REQUIRE(stale.stale(report, of_k) == std::vector<std::string>{"k|store dropped|nowhere"});
  REQUIRE(stale.stale(report, [](const std::string&) { return false; }).empty());
  const ReviewedSurvivors pattern = ReviewedSurvivors::parse("*|addend dropped|mad.lo.u32 #0  # likewise\n");
  REQUIRE(pattern.unexpected(report).empty());
  REQUIRE(ReviewedSurvivors::parse("kk*|addend dropped|mad.lo.u32 #0  # another\n").unexpected(report).size() == 1);
  REQUIRE_THROWS_AS(ReviewedSurvivors::parse("k|store dropped|nowhere"), ParseError);
  REQUIRE_THROWS_AS(ReviewedSurvivors::parse("nothing  # at all"), ParseError);
  // Of each key some copies; a key is a line without line information's opcode and number, so all are alone here.
  REQUIRE(sample_mutations(all, 1).size() == all.size());
}

TEST_CASE("profile: coverage, bank conflicts, sectors, instructions per byte") {
  Module module = Module::parse(kernel_text(kGemmBody, kGemmShared));
  Profile profile;
  LaunchOptions options;
  options.profile = &profile;
  REQUIRE_FALSE(wrong(module, {32, 64}, options));
  const KernelReport report = report_kernel(module.kernel("k"), profile);
  REQUIRE(report.coverage == 1.0);
  // ldmatrix rows lie 32 bytes apart: 8 rows of 16 bytes span 256 bytes, two rows a bank group: 2 passes for each
  // matrix.
  REQUIRE(report.shared_requests > 0);
  REQUIRE(report.shared_wavefronts > report.shared_requests);
  REQUIRE(report.sector_use == 1.0);  // 16-byte rows in pairs fill their sectors
  REQUIRE(report.instructions_per_byte > 0);
  const std::string text = format_report({report});
  REQUIRE(text.find("bank conflicts") != std::string::npos);
  // A round trip through the file format.
  Profile read = Profile::parse(profile.format());
  REQUIRE(report_kernel(module.kernel("k"), read).shared_wavefronts == report.shared_wavefronts);
}

TEST_CASE("bank conflicts and sectors of known patterns") {
  const auto counters = [](const std::string& body, size_t from_end) {
    Module module = Module::parse(kernel_text(body, ".shared .align 16 .b8 t[4096];\n"));
    Memory memory;
    const uint64_t out = memory.allocate(8192, "out");
    Profile profile;
    LaunchOptions options;
    options.profile = &profile;
    launch(module, "k", {}, {32, 1, 1}, 0, pack_parameters(out, out, out, out), memory, options);
    const auto& all = profile.of(module.kernel("k"));
    return all[all.size() - 2 - from_end];
  };
  const auto store = [&](int stride) {
    return counters("mov.u32 %r1, t; mul.lo.u32 %r0, %tid, " + std::to_string(stride) + "; st.shared.u32 [%r0], %tid;",
                    1)
        .shared_wavefronts;
  };
  REQUIRE(store(4) == 1);
  REQUIRE(store(8) == 2);
  REQUIRE(store(16) == 4);
  REQUIRE(store(128) == 32);
  REQUIRE(store(132 - 96) == 1);  // 36: odd number of words
  const auto load = [&](int stride) {
    return counters("mad.wide.u32 %R0, %tid, " + std::to_string(stride) + ", %P0; ld.global.u32 %r0, [%R0];", 1)
        .sectors;
  };
  REQUIRE(load(4) == 4);
  REQUIRE(load(8) == 8);
  REQUIRE(load(32) == 32);
}

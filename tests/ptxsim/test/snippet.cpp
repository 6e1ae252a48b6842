// The kernel around a snippet.
#include "tests/ptxsim/test/snippet.h"

#include <stdexcept>

namespace inferd::ptxsim::test {
namespace {

constexpr const char* kHead = ".version 8.4\n.target sm_90\n.address_size 64\n";
constexpr const char* kRegisters =
    ".reg .b32 %a, %b, %c, %d, %tid;\n.reg .b32 %r<8>;\n.reg .b64 %A, %B, %C, %D, %at;\n.reg .b64 %R<4>;\n"
    ".reg .b64 %P<4>;\n.reg .b16 %h<4>;\n.reg .pred %p, %q;\n";

}  // namespace

std::string kernel_text(const std::string& body, const std::string& declarations) {
  return std::string(kHead) + declarations +
         "\n.visible .entry k(.param .u64 k0, .param .u64 k1, .param .u64 k2, .param .u64 k3)\n{\n" + kRegisters +
         "ld.param.u64 %P0, [k0];\nld.param.u64 %P1, [k1];\nld.param.u64 %P2, [k2];\nld.param.u64 %P3, [k3];\n"
         "mov.u32 %tid, %tid.x;\n" +
         body + "\nret;\n}\n";
}

std::vector<uint64_t> evaluate_all(const std::string& body, const std::vector<Row>& rows, bool wide) {
  const std::string around =
      "setp.ge.u32 %p, %tid, %r7;\n@%p ret;\n"
      "mad.wide.u32 %at, %tid, 24, %P0;\nld.global.u64 %A, [%at];\nld.global.u64 %B, [%at+8];\nld.global.u64 %C, "
      "[%at+16];\n"
      "cvt.u32.u64 %a, %A;\ncvt.u32.u64 %b, %B;\ncvt.u32.u64 %c, %C;\n" +
      body + (wide ? "\n" : "\ncvt.u64.u32 %D, %d;\n") + "mad.wide.u32 %at, %tid, 8, %P1;\nst.global.u64 [%at], %D;\n";
  const std::string text = kernel_text("cvt.u32.u64 %r7, %P2;\n" + around);
  Module module = Module::parse(text);
  Memory memory;
  std::vector<uint64_t> results(rows.size());
  for (size_t first = 0; first < rows.size(); first += 1024) {
    const size_t n = std::min<size_t>(1024, rows.size() - first);
    const uint64_t in = memory.allocate(n * sizeof(Row), "rows"), out = memory.allocate(n * 8, "results", true);
    memory.write(in, &rows[first], n * sizeof(Row));
    const unsigned threads = unsigned((n + 31) / 32 * 32);
    launch(module, "k", {}, {threads, 1, 1}, 0, pack_parameters(in, out, uint64_t{n}, uint64_t{0}), memory);
    memory.read(out, &results[first], n * 8);
  }
  return results;
}

uint64_t evaluate(const std::string& body, Row row, bool wide) {
  return evaluate_all(body, std::vector<Row>{row}, wide)[0];
}

std::vector<uint32_t> run_block(const std::string& body, unsigned threads, size_t words,
                                const std::string& declarations, const LaunchOptions& options) {
  Module module = Module::parse(kernel_text(body, declarations));
  Memory memory;
  const uint64_t out = memory.allocate(words * 4, "out");
  launch(module, "k", {}, {threads, 1, 1}, 4096, pack_parameters(out, out, uint64_t{0}, uint64_t{0}), memory, options);
  std::vector<uint32_t> result(words);
  memory.read(out, result.data(), words * 4);
  return result;
}

Violation::Kind violation_of(const std::string& body, unsigned threads, const std::string& declarations,
                             const LaunchOptions& options) {
  try {
    run_block(body, threads, 64, declarations, options);
  } catch (const Violation& violation) {
    return violation.kind();
  }
  throw std::runtime_error("nothing was wrong with: " + body);
}

}  // namespace inferd::ptxsim::test

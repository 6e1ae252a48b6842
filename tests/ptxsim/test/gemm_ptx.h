// A small pipelined GEMM in PTX, written by hand: C[M][8] f32 = A[M][K] * B[8][K]^T in f16, M <= 32, K a multiple
// of 16. Two warps, double-buffered cp.async, ldmatrix, mma, an epilogue through shared memory: each bug class has a
// place in it.
#pragma once
#include <string>

namespace inferd::ptxsim::test {

inline const std::string kGemmShared = ".shared .align 16 .b8 tiles[3584];\n";

// %P0 C, %P1 A, %P2 B, %P3 = M | K << 32. Buffer b at 1280 b: A rows of 32 bytes, then B's at 1024. C's tile at 2560.
inline const std::string kGemmBody = R"(
.reg .b32 %M, %K, %row, %as, %bs, %asize, %buf, %other, %kt, %next, %lane, %warp, %al, %bl, %x, %y;
.reg .b32 %fa<4>, %fb<2>, %fc<4>;
.reg .b64 %ag, %bg;
.reg .pred %inrow, %copyb, %last, %more;
mov.b64 {%M, %K}, %P3;
shr.u32 %row, %tid, 1;
and.b32 %x, %tid, 1;
mov.u32 %as, tiles;
mad.lo.u32 %as, %row, 32, %as;
mad.lo.u32 %as, %x, 16, %as;
add.u32 %bs, %as, 1024;
setp.lt.u32 %inrow, %row, %M;
selp.u32 %asize, 16, 0, %inrow;
setp.lt.u32 %copyb, %tid, 16;
mul.lo.u32 %y, %row, %K;
mad.lo.u32 %y, %x, 8, %y;
mad.wide.u32 %ag, %y, 2, %P1;
mad.wide.u32 %bg, %y, 2, %P2;
cp.async.cg.shared.global [%as], [%ag], 16, %asize;
@%copyb cp.async.cg.shared.global [%bs], [%bg], 16;
cp.async.commit_group;
mov.u32 %lane, %laneid;
shr.u32 %warp, %tid, 5;
and.b32 %x, %lane, 15;
mad.lo.u32 %x, %warp, 16, %x;
shr.u32 %y, %lane, 4;
mul.lo.u32 %al, %x, 32;
mad.lo.u32 %al, %y, 16, %al;
and.b32 %x, %lane, 7;
shr.u32 %y, %lane, 3;
and.b32 %y, %y, 1;
mul.lo.u32 %bl, %x, 32;
mad.lo.u32 %bl, %y, 16, %bl;
mov.u32 %buf, 0;
mov.u32 %kt, 0;
mov.f32 %fc0, 0f00000000;
mov.f32 %fc1, 0f00000000;
mov.f32 %fc2, 0f00000000;
mov.f32 %fc3, 0f00000000;
LOOP:
sub.u32 %other, 1280, %buf;
add.u32 %next, %kt, 16;
setp.ge.u32 %last, %next, %K;
@%last bra NOCOPY;
add.u64 %ag, %ag, 32;
add.u64 %bg, %bg, 32;
add.u32 %x, %as, %other;
add.u32 %y, %bs, %other;
cp.async.cg.shared.global [%x], [%ag], 16, %asize;
@%copyb cp.async.cg.shared.global [%y], [%bg], 16;
NOCOPY:
cp.async.commit_group;
cp.async.wait_group 1;
bar.sync 0;
mov.u32 %x, tiles;
add.u32 %x, %x, %buf;
add.u32 %y, %x, %bl;
add.u32 %x, %x, %al;
ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%fa0, %fa1, %fa2, %fa3}, [%x];
ldmatrix.sync.aligned.m8n8.x2.shared.b16 {%fb0, %fb1}, [%y+1024];
mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%fc0, %fc1, %fc2, %fc3}, {%fa0, %fa1, %fa2, %fa3}, {%fb0, %fb1}, {%fc0, %fc1, %fc2, %fc3};
bar.sync 0;
mov.u32 %buf, %other;
mov.u32 %kt, %next;
setp.lt.u32 %more, %kt, %K;
@%more bra LOOP;
shr.u32 %x, %lane, 2;
mad.lo.u32 %x, %warp, 16, %x;
and.b32 %y, %lane, 3;
shl.b32 %y, %y, 3;
mad.lo.u32 %x, %x, 32, %y;
st.shared.v2.f32 [%x+2560], {%fc0, %fc1};
st.shared.v2.f32 [%x+2816], {%fc2, %fc3};
bar.sync 0;
sub.u32 %row, 31, %row;
and.b32 %x, %tid, 1;
shl.b32 %x, %x, 4;
mad.lo.u32 %x, %row, 32, %x;
ld.shared.v4.f32 {%fc0, %fc1, %fc2, %fc3}, [%x+2560];
setp.lt.u32 %p, %row, %M;
cvt.u64.u32 %R0, %x;
add.u64 %R0, %P0, %R0;
@%p st.global.v4.f32 [%R0], {%fc0, %fc1, %fc2, %fc3};
)";

}  // namespace inferd::ptxsim::test

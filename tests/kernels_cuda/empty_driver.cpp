// A shared library with cuInit and nothing else, as a broken or ancient driver would be.
extern "C" int cuInit(unsigned) { return 0; }

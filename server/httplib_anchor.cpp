// Gives the HTTP library's target a source where the implementation comes from the system's package.
#include <httplib.h>

/*
** What Corelane adds to Lua 5.1.5 so that it can run scripts as Redis 7.0 does; see sandbox.c.
*/
#ifndef sandbox_h
#define sandbox_h

#include "lua.h"

/* Registers the table "sandbox" as a global. The Rust side takes it away before any script runs. */
void sandbox_open (lua_State *L);

/* Registers the library "bit"; see bits.c. */
void bits_open (lua_State *L);

/*
** The error on top of the stack is about to be caught. If it is a full userdata, the host raised it to
** end the script (scripts cannot make such a value), so nobody may catch it: raises it again.
*/
void sandbox_passon (lua_State *L);

/*
** The error handler of xpcall: the script's own (upvalue 1), unless the host ends the script. Then a handler
** could run for ever, for it runs inside the hook, and hooks do not nest.
*/
int sandbox_handle (lua_State *L);

/* Sets the globals KEYS and ARGV to the two values on top of the stack. */
void sandbox_arguments (lua_State *L);

/* The body of a lifted function; its upvalues are the arguments of `lift`. */
int lifted (lua_State *L);

#endif

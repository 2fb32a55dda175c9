/*
** The few functions of the script sandbox that have to be C, because they count as C functions in
** error positions, or need a table's read-only mark. Everything else is Rust (src/scripting).
**
** The read-only mark itself is a field of Table (lobject.h), tested wherever a table is written
** (lvm.c, lapi.c). Bytecode is not loaded (ldo.c). An error that the host raised passes every pcall
** (sandbox_passon). These are all the differences from Lua 5.1.5; each is marked "corelane".
*/
#define LUA_CORE

#include "lua.h"

#include "direct.h"
#include "lauxlib.h"
#include "lobject.h"
#include "lstate.h"
#include "sandbox.h"

void sandbox_passon (lua_State *L) {
  if (lua_type(L, -1) == LUA_TUSERDATA) lua_error(L);
}

int sandbox_handle (lua_State *L) {
  lua_settop(L, 1);
  if (lua_type(L, 1) == LUA_TUSERDATA) return 1;
  lua_pushvalue(L, lua_upvalueindex(1));
  lua_insert(L, 1);
  lua_call(L, 1, 1);
  return 1;
}

/* readonly(table, flag) */
static int readonly (lua_State *L) {
  luaL_checktype(L, 1, LUA_TTABLE);
  ((Table *)lua_topointer(L, 1))->readonly = (lu_byte)lua_toboolean(L, 2);
  return 0;
}

void sandbox_arguments (lua_State *L) {
  Table *globals = (Table *)lua_topointer(L, LUA_GLOBALSINDEX);
  lu_byte before = globals->readonly;
  globals->readonly = 0;
  lua_setglobal(L, "ARGV");
  lua_setglobal(L, "KEYS");
  globals->readonly = before;
}

/*
** A native function behind the face of a C function of the standard library. The native (upvalue 1,
** or the first element of upvalue 1 if that is a table) gets upvalue 2, unless nil, and the arguments.
** Its results begin with
**   true             the others are the results
**   false, string    an error, which gets the position of the caller
**   false, table     an error, raised as it is
**   nil, string      an error without a position
**   number, string   an error about the argument of that number
*/
int lifted (lua_State *L) {
  int base = 0;
  luaL_checkstack(L, 4, "too many arguments");
  lua_pushvalue(L, lua_upvalueindex(1));
  if (lua_istable(L, -1)) {
    lua_rawgeti(L, -1, 1);
    lua_remove(L, -2);
  }
  lua_insert(L, ++base);
  if (!lua_isnil(L, lua_upvalueindex(2))) {
    lua_pushvalue(L, lua_upvalueindex(2));
    lua_insert(L, ++base);
  }
  lua_call(L, lua_gettop(L) - 1, LUA_MULTRET);
  if (lua_type(L, 1) == LUA_TBOOLEAN && lua_toboolean(L, 1)) {
    lua_remove(L, 1);
    return lua_gettop(L);
  }
  if (lua_type(L, 1) == LUA_TNUMBER)
    return luaL_argerror(L, (int)lua_tointeger(L, 1), lua_tostring(L, 2));
  if (!lua_isnil(L, 1) && lua_type(L, 2) == LUA_TSTRING) {
    luaL_where(L, 1);
    lua_pushvalue(L, 2);
    lua_concat(L, 2);
  }
  return lua_error(L);
}

/* lift(native or table, first argument or nil) */
static int lift (lua_State *L) {
  lua_settop(L, 2);
  lua_pushcclosure(L, lifted, 2);
  return 1;
}

/* pcall as scripts see it: of an error table only its text is left. */
static int script_pcall (lua_State *L) {
  /* Without arguments it calls what stands for its own result. */
  if (lua_gettop(L) == 0) lua_pushboolean(L, 1);
  if (lua_pcall(L, lua_gettop(L) - 1, LUA_MULTRET, 0) == 0) {
    luaL_checkstack(L, 1, "too many results");
    lua_pushboolean(L, 1);
    lua_insert(L, 1);
    return lua_gettop(L);
  }
  sandbox_passon(L);
  if (lua_istable(L, -1)) {
    lua_getfield(L, -1, "err");
    if (lua_isstring(L, -1)) lua_replace(L, -2);
    else lua_pop(L, 1);
  }
  lua_pushboolean(L, 0);
  lua_insert(L, -2);
  return 2;
}

/*
** Makes a table of every error: err, and the source and line of the Lua function that raised it (its
** caller, if a C function did).
*/
static int error_handler (lua_State *L) {
  lua_Debug ar;
  int found;
  lua_settop(L, 1);
  if (lua_type(L, 1) == LUA_TUSERDATA) return 1;
  if (!lua_istable(L, 1)) {
    lua_newtable(L);
    lua_pushliteral(L, "ERR ");
    if (lua_isstring(L, 1)) lua_pushvalue(L, 1);
    else if (lua_isnil(L, 1)) lua_pushliteral(L, "nil");
    else if (lua_isboolean(L, 1)) lua_pushstring(L, lua_toboolean(L, 1) ? "true" : "false");
    else lua_pushfstring(L, "%s: %p", luaL_typename(L, 1), lua_topointer(L, 1));
    lua_concat(L, 2);
    lua_setfield(L, -2, "err");
    lua_replace(L, 1);
  }
  luaL_checkstack(L, 4, "error handler");
  found = lua_getstack(L, 1, &ar) && lua_getinfo(L, "Sl", &ar);
  if (found && *ar.what == 'C') found = lua_getstack(L, 2, &ar) && lua_getinfo(L, "Sl", &ar);
  if (found) {
    lua_pushstring(L, ar.source);
    lua_setfield(L, 1, "source");
    lua_pushinteger(L, ar.currentline);
    lua_setfield(L, 1, "line");
  }
  return 1;
}

/* run(function, ...): true and its result, or false and the error table. */
static int run (lua_State *L) {
  int failed;
  luaL_checkstack(L, 2, "too many arguments");
  lua_pushcfunction(L, error_handler);
  lua_insert(L, 1);
  failed = lua_pcall(L, lua_gettop(L) - 2, 1, 1);
  if (failed) sandbox_passon(L);
  lua_pushboolean(L, !failed);
  lua_insert(L, -2);
  return 2;
}

static const luaL_Reg functions[] = {
  {"error_handler", error_handler},
  {"lift", lift},
  {"pcall", script_pcall},
  {"readonly", readonly},
  {"run", run},
  {NULL, NULL}
};

void sandbox_open (lua_State *L) {
  luaL_register(L, "sandbox", functions);
  direct_open(L);
  lua_pop(L, 1);
  bits_open(L);
}

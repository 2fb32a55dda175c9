//! `math.random` of scripts: the same numbers on every machine.
//!
//! Redis computes them with a generator of its own, the 48-bit one that POSIX calls lrand48, and starts
//! it once per process: a script's numbers continue those of the script before. Here once per shard.

use std::cell::Cell;
use std::rc::Rc;

use mlua::{Lua, Value};

use super::native::{Args, Lift, NativeResult, Refusal, nothing, one};

/// The state of the generator before anybody seeds it (POSIX).
const START: u64 = 0x1234_ABCD_330E;
/// What a seed is completed with below (POSIX, srand48).
const SEED_LOW: u64 = 0x330E;
const FACTOR: u64 = 0x5_DEEC_E66D;
const SUMMAND: u64 = 0xB;
const STATE_MASK: u64 = (1 << 48) - 1;
/// Bits of the state below those that are the result.
const RESULT_SHIFT: u32 = 17;
/// Redis 7.0 `rand.h`, REDIS_LRAND48_MAX.
const RESULT_MAX: u64 = i32::MAX as u64;

/// The generator; its clones share one state.
#[derive(Clone)]
pub struct Random(Rc<Cell<u64>>);

impl Default for Random {
    fn default() -> Self {
        Self(Rc::new(Cell::new(START)))
    }
}

impl Random {
    fn seed(&self, seed: u32) {
        self.0.set(u64::from(seed) << 16 | SEED_LOW);
    }

    /// The next number, from 0 to below 1 in steps of 2^-31.
    fn next(&self) -> f64 {
        let state = (self.0.get().wrapping_mul(FACTOR) + SUMMAND) & STATE_MASK;
        self.0.set(state);
        ((state >> RESULT_SHIFT) % RESULT_MAX) as f64 / RESULT_MAX as f64
    }

    /// Puts `random` and `randomseed` into the table `math`.
    pub(super) fn install(&self, lua: &Lua, lift: &Lift) -> mlua::Result<()> {
        let math: mlua::Table = lua.globals().raw_get("math")?;
        let (random, seeded) = (self.clone(), self.clone());
        math.raw_set("random", lift.native(lua, move |_, args| random.answer(&args))?)?;
        math.raw_set(
            "randomseed",
            lift.native(lua, move |_, args| {
                seeded.seed(args.integer(1)? as u32);
                nothing()
            })?,
        )
    }

    fn answer(&self, args: &Args) -> NativeResult {
        let unit = self.next();
        let value = match args.len() {
            0 => unit,
            1 => {
                let high = args.integer(1)? as i32;
                if high < 1 {
                    return Err(Refusal::Argument(1, "interval is empty".into()));
                }
                (unit * f64::from(high)).floor() + 1.0
            }
            2 => {
                let (low, high) = (args.integer(1)? as i32, args.integer(2)? as i32);
                if low > high {
                    return Err(Refusal::Argument(2, "interval is empty".into()));
                }
                (unit * (f64::from(high) - f64::from(low) + 1.0)).floor() + f64::from(low)
            }
            _ => return Err(Refusal::Message("wrong number of arguments".into())),
        };
        one(Value::Number(value))
    }
}

//! Known mistakes, put back into the real code one at a time, so that the simulator shows what it
//! catches. Where each is made the code says `mistake!("its name")`; a node that is built alone has
//! none of them.

pub mod catalogue;
pub mod exhibit;
pub mod run;

//! `bench`: the figures that the project promises, each as a ratio measured in one run.

fn main() {}

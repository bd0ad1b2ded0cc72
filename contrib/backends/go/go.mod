module doorward.invalid/backend

go 1.19

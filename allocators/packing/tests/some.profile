# cma-packing-profile 1
# Of no program: half of the pages are in chunks of up to 8 pages, as in many tests.
steepness = 2
share = 100
steepest = 12
own-grade = 0
after 1 = 1:1000
after 2 = 1:1000
after 8 = 1:500 4:500
after 32 = 1:200 4:300 8:500
after 64 = 1:100 4:200 8:200 12:100 16:200 24:200

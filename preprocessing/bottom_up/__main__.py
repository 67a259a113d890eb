from preprocessing.bottom_up.command import main

main()
